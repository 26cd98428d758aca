package pages

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// firstName is a file beside the images that lists what the app needs first: a line for each range, with the image, the
// offset and the length.
const firstName = "first-pages"

// WriteFirst writes down, beside the images in dir, what the app needs first, in the order in which it does.
func WriteFirst(dir string, list []Range) error {
	var b []byte
	for _, r := range list {
		b = append(append(b, r.File...), ' ')
		b = append(strconv.AppendInt(b, r.Offset, 10), ' ')
		b = append(strconv.AppendInt(b, r.Length, 10), '\n')
	}
	return os.WriteFile(filepath.Join(dir, firstName), b, 0o600)
}

// ReadFirst reads what WriteFirst wrote; nil if it did not.
func ReadFirst(dir string) ([]Range, error) {
	f, err := os.Open(filepath.Join(dir, firstName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []Range
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		file, numbers, _ := strings.Cut(lines.Text(), " ")
		offset, length, _ := strings.Cut(numbers, " ")
		r := Range{File: file}
		var errs [2]error
		r.Offset, errs[0] = strconv.ParseInt(offset, 10, 64)
		r.Length, errs[1] = strconv.ParseInt(length, 10, 64)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("%s: %q is no range of pages: %w", f.Name(), lines.Text(), err)
		}
		list = append(list, r)
	}
	return list, lines.Err()
}

// clusters joins ranges of a list that lie close to each other: no more than gap bytes apart. They are in the order of their
// earliest range.
func clusters(list []Range, gap int64) []Range {
	byPlace := make([]int, len(list))
	for i := range list {
		byPlace[i] = i
	}
	slices.SortFunc(byPlace, func(a, b int) int {
		return cmp.Or(cmp.Compare(list[a].File, list[b].File), cmp.Compare(list[a].Offset, list[b].Offset))
	})
	type cluster struct {
		Range
		earliest int
	}
	var joined []cluster
	for _, i := range byPlace {
		r := list[i]
		if n := len(joined) - 1; n >= 0 && joined[n].File == r.File && r.Offset <= joined[n].end()+gap {
			joined[n].Length = max(joined[n].end(), r.end()) - joined[n].Offset
			joined[n].earliest = min(joined[n].earliest, i)
			continue
		}
		joined = append(joined, cluster{r, i})
	}
	slices.SortFunc(joined, func(a, b cluster) int { return cmp.Compare(a.earliest, b.earliest) })
	ordered := make([]Range, len(joined))
	for i, c := range joined {
		ordered[i] = c.Range
	}
	return ordered
}

func (r Range) end() int64 { return r.Offset + r.Length }

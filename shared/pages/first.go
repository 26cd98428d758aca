package pages

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

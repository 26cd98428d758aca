package snapshot

import (
	"cmp"
	"slices"
	"strings"
)

// Range is a part of a page image.
type Range struct {
	File           string
	Offset, Length int64 // bytes
}

// layFrames distributes the pages of page images over frames: what is needed first, in that order and in small frames,
// then the rest as it lies in the files. Of the pages between some that are needed first, none is taken along: few lie
// there in that order, so that the lists of extents would hardly become shorter.
//
// The order is kept only roughly: firstGroup bytes at a time are sorted as they lie in the file. Apps, and above all their
// garbage collectors, jump about in their memory, and every extent costs a write to the page image and a call to fill it in.
func layFrames(pages []file, first []Range) []Frame {
	var l layout
	images := map[string]*image{}
	for _, p := range pages {
		images[p.name] = &image{file: p, laid: make([]bool, p.size/PageSize)}
	}
	for group := range slices.Chunk(firstPages(images, first), firstGroup/PageSize) {
		slices.SortFunc(group, func(a, b firstPage) int {
			return cmp.Or(strings.Compare(a.img.file.name, b.img.file.name), cmp.Compare(a.page, b.page))
		})
		for _, p := range group {
			if l.extents < maxFirst {
				l.add(p.img, p.page, true)
			}
		}
	}
	for _, p := range pages {
		l.addRest(images[p.name])
	}
	return l.frames
}

// layout is a list of frames that grows.
type layout struct {
	frames  []Frame
	extents int // in frames of what is needed first
}

// image is a page image that is laid out.
type image struct {
	file  file
	laid  []bool // by page
	open  bool   // there is a frame that takes more of it
	frame int    // which
	next  int64  // page after the last one laid
	room  int64  // pages that the frame can still take
}

// maxFirst is how many extents may be needed first. It keeps manifests of large memory in bounds.
const maxFirst = 1 << 18

// firstGroup is how much of what is needed first is sorted at a time, bytes.
const firstGroup = 8 << 20

// firstPage is a page that is needed first.
type firstPage struct {
	img  *image
	page int64
}

// firstPages returns the pages of ranges in their order, each once.
func firstPages(images map[string]*image, first []Range) []firstPage {
	var list []firstPage
	seen := map[firstPage]bool{}
	for _, r := range first {
		img := images[r.File]
		if img == nil {
			continue // the range is of an image that is empty, or not of this checkpoint
		}
		from, to := max(r.Offset, 0), img.file.size
		if r.Length < to-r.Offset {
			to = r.Offset + r.Length
		}
		for page := from / PageSize; page*PageSize < to; page++ {
			p := firstPage{img, page}
			if !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
	}
	return list
}

func (l *layout) addRest(img *image) {
	img.open = false
	for page, laid := range img.laid {
		if !laid {
			l.add(img, int64(page), false)
		}
	}
}

// add lays a page.
func (l *layout) add(img *image, page int64, first bool) {
	if !img.open {
		img.open, img.frame, img.room = true, len(l.frames), FrameSize/PageSize
		if first {
			img.room = FirstFrameSize / PageSize
		}
		l.frames = append(l.frames, Frame{File: img.file.name, First: first})
	}
	f := &l.frames[img.frame]
	if n := len(f.Extents); n > 0 && page == img.next {
		f.Extents[n-1].Length += PageSize
	} else {
		f.Extents = append(f.Extents, Extent{page * PageSize, PageSize})
		if first {
			l.extents++
		}
	}
	img.laid[page], img.next = true, page+1
	img.room--
	img.open = img.room > 0
}

package wal

import (
	"errors"
	"io"
	"io/fs"

	"vmcluster/lib/vfs"
)

const (
	// pageBytes is the unit in which a place that cannot be read is passed over: systems read files by the page.
	pageBytes = 4096
	// patience is the number of unreadable pages in a row after which each further one doubles what is passed over, up to
	// maxSkipBytes: a disk may try for seconds before it gives up a page.
	patience     = 16
	maxSkipBytes = 1 << 20
)

// pageReader reads a file from start to end. Pages which the disk cannot read come out as zeros, which no checksum of a frame
// takes for a frame, so that what lies before and behind them can be used.
type pageReader struct {
	file         vfs.Reader
	offset, size int64
	skip         int64 // bytes to be passed over
	inRow        int   // unreadable pages since the last good read
	cause        error // of the first unreadable page; nil for none
	badEnd       int64 // end of the last unreadable page
}

func (r *pageReader) Read(p []byte) (int, error) {
	left := r.size - r.offset
	if left <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), left)]
	for r.skip == 0 {
		n, err := r.readPage(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
	n := min(int64(len(p)), r.skip)
	clear(p[:n])
	r.offset += n
	r.skip -= n
	return int(n), nil
}

// readPage reads as much as it can. When that is nothing, r.skip is set.
func (r *pageReader) readPage(p []byte) (int, error) {
	rest := pageBytes - r.offset%pageBytes
	n, err := r.file.ReadAt(p, r.offset)
	if n == 0 && !final(err) { // once more, and no further than this page: the error may be about another one, or have passed
		n, err = r.file.ReadAt(p[:min(int64(len(p)), rest)], r.offset)
	}
	switch {
	case n > 0:
		r.offset += int64(n)
		r.inRow = 0
		return n, nil
	case final(err):
		return 0, err
	}
	if r.cause == nil {
		r.cause = err
	}
	r.skip = min(rest<<max(0, r.inRow-patience), maxSkipBytes)
	r.badEnd = min(r.offset+r.skip, r.size)
	r.inRow = min(r.inRow+1, patience+8)
	return 0, nil
}

// final reports whether an error of reading says nothing about the place that was read.
func final(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, fs.ErrClosed) || errors.Is(err, fs.ErrPermission)
}

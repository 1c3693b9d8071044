package index

import (
	"runtime/debug"

	"vmcluster/lib/vfs"
)

// guard turns a fault of memory, which a page of a segment gives that cannot be read any more, into an error that names the segment. It is
// deferred at the top of everything that reads segments, before locks and states are taken, so that those are given back first:
//
//	defer ix.guard(debug.SetPanicOnFault(true), &err)
func (ix *Index) guard(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if f := vfs.AsFault(recover()); f != nil {
		*err = ix.faultErr(f)
	}
}

func (ix *Index) faultErr(f *vfs.Fault) error {
	st := ix.acquire()
	defer ix.release(st)
	for _, s := range st.segments {
		if offset, ok := f.OffsetIn(s.data); ok {
			return f.In(s.path, offset)
		}
	}
	return f.Err() // of a segment which a merge has replaced meanwhile
}

// checkMapped is check for a file which may have pages that cannot be read.
func (s *segment) checkMapped() (what string, err error) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if f := vfs.AsFault(recover()); f != nil {
			offset, _ := f.OffsetIn(s.data)
			err = f.In(s.path, offset)
		}
	}(debug.SetPanicOnFault(true))
	return s.check(), nil
}

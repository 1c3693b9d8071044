package vfs

import (
	"runtime"
	"runtime/debug"
	"unsafe"

	"vmcluster/lib/errkind"
)

// Fault is a fault of memory, which reading a Mapping gives when the file was truncated meanwhile or the disk cannot be read.
type Fault struct {
	addr  uintptr
	cause error
}

// AsFault returns the fault that was recovered as r, or nil when there was no panic. Other panics go on. It is called with
// recover() in a function which is deferred, see CatchFault.
func AsFault(r any) *Fault {
	switch r := r.(type) {
	case nil:
		return nil
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		return &Fault{addr: r.Addr(), cause: r}
	default:
		panic(r)
	}
}

// OffsetIn returns where in a mapping the fault was; false when it was elsewhere.
func (f *Fault) OffsetIn(mapping []byte) (offset int64, ok bool) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mapping)))
	if f.addr < start || f.addr-start >= uintptr(len(mapping)) {
		return 0, false
	}
	return int64(f.addr - start), true
}

// In returns the error, of kind Corrupt, for a fault at an offset of a file.
func (f *Fault) In(path string, offset int64) error {
	return errkind.New(errkind.Corrupt, "cannot read %q at byte %d: the disk has failed there, or the file was truncated meanwhile; check the disk, and restore the file from a backup: %w", path, offset, f.cause)
}

// Err returns the error, of kind Corrupt, for a fault in an unknown file.
func (f *Fault) Err() error {
	return errkind.New(errkind.Corrupt, "cannot read a mapped file at address %#x: the disk has failed there, or the file was truncated meanwhile; check the disk: %w", f.addr, f.cause)
}

// CatchFault turns a fault of memory into an error of kind Corrupt instead of the end of the process. Other panics go on. It is deferred at the
// top of a function which reads mappings:
//
//	func read(...) (err error) {
//		defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
//
// It covers the goroutine of that function only. Locks which are held at the fault have to be released by defer.
func CatchFault(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if f := AsFault(recover()); f != nil {
		*err = f.Err()
	}
}

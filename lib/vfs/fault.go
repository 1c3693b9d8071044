package vfs

import (
	"runtime"
	"runtime/debug"

	"vmcluster/lib/errkind"
)

// CatchFault turns a fault of memory, which reading a Mapping gives when the file was truncated meanwhile or the disk cannot be
// read, into an error of kind Corrupt instead of the end of the process. Other panics go on. It is deferred at the top of a function which reads
// mappings:
//
//	func read(...) (err error) {
//		defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
//
// It covers the goroutine of that function only.
func CatchFault(before bool, err *error) {
	debug.SetPanicOnFault(before)
	switch r := recover().(type) {
	case nil:
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		*err = errkind.New(errkind.Corrupt, "cannot read a mapped file at address %#x, which was truncated meanwhile or cannot be read: %w", r.Addr(), r)
	default:
		panic(r)
	}
}

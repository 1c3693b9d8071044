// Package vfs is the one door to the disk: create, append, read, map, rename,
// link, sync, lock and free space behind a small interface, so that storage
// can be tested on file systems which crash (lib/vfs/memfs) and fail
// (lib/vfs/faultfs).
//
// The package must never know what is in the files.
//
// Errors of missing files satisfy errors.Is(err, fs.ErrNotExist), those of
// existing ones fs.ErrExist; the errno of the system stays reachable, such as
// syscall.ENOSPC.
//
// Ownership: the bytes of a Mapping belong to the mapping and are gone after
// its Close. ReadFile gives its result to the caller. All methods of an FS are
// safe for concurrent use; a File has one user at a time.
//
// Invariants:
//
//  1. What was written to a File is durable when its Sync has returned nil,
//     as far as its name is: names (create, rename, link, remove, mkdir) are
//     durable when SyncDir of their directory has returned nil.
//  2. After a failed Sync or SyncDir nothing is known about what was not
//     durable before; calling again proves nothing. Callers must stop using the file.
//  3. Rename replaces an existing file atomically, also across a crash.
//  4. A file which is mapped is never truncated or written to by its users:
//     only finished files are mapped.
package vfs

// Package fsstore keeps backups in a directory of a file system: a mounted disk, NFS.
//
// Invariants:
//
//  1. An object is a file which is complete and on the disk before it has its name; it is never changed in place.
//  2. Directories in which nothing is left are removed.
package fsstore

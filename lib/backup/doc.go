// Package backup copies a snapshot to a Store, incrementally, and back into a data directory. See docs/design/0035-backups.md
// and docs/design/0037-scheduled-backups.md.
//
// It knows no storage service: stores come in as a Store, in packages below.
//
// Invariants:
//
//  1. A destination which held a whole backup holds a whole one at any time, whenever a run ends.
//  2. What is loaded back has the bytes of the snapshot, or Restore fails.
//  3. A data directory in which a restore has begun and not ended cannot be opened as a storage.
//  4. Objects are deleted only if their name is that of a piece, or of the mark, list and lock of a backup that is removed.
//  5. A backup that is removed loses its mark first.
package backup

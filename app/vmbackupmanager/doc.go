// Command vmbackupmanager backs up one node on a schedule, keeps some of the backups, verifies them, and restores the one that is asked for.
//
// What is done when is decided by pure functions in schedule.go; manager.go does it, one run at a time.
//
// Invariants:
//
//  1. Only latest is sent from the disk; all others are copies of it, made once and never changed.
//  2. A backup which is locked, which a restore is asked for, which is being verified, or which is the only whole one is not deleted.
//  3. The mark of a backup goes first when it is deleted.
//  4. Objects whose names are not those of backups of the schedule are left alone.
package main

// Command vmbackup copies a snapshot of a vmstorage or a single node to a store, incrementally.
package main

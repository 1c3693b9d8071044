// Package backuptool is what vmbackup, vmrestore and vmbackupmanager have in common: flags, the HTTP port, snapshots, and the store which a URL such as
// fs:///backups or s3://bucket/directory names. Nothing else may import it: it links the client libraries of the stores.
package backuptool

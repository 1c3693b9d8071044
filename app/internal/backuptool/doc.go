// Package backuptool is what vmbackup and vmrestore have in common: flags, the HTTP port, and the store which a URL such as fs:///backups names.
package backuptool

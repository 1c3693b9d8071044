// Package backupstore finds the store which a URL such as fs:///backups or s3://bucket/dir names, with the flags of the services.
package backupstore

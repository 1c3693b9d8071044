package main

import (
	"context"
	"flag"
	"time"

	"vmcluster/app/internal/backuptool"
	"vmcluster/lib/backup"
	"vmcluster/lib/service"
	"vmcluster/lib/vfs"
)

// component is the whole of vmrestore.
type component struct {
	tool      backuptool.Config
	dataPath  string
	src       string
	skipCheck bool
}

// RegisterFlags implements service.Component.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.tool.RegisterFlags(fs, ":8421", "loaded")
	fs.StringVar(&c.dataPath, "storageDataPath", "victoria-metrics-data", "Directory to restore to. The process which uses it must be stopped; what is there and not in the backup is deleted")
	fs.StringVar(&c.src, "src", "", "Backup to restore, the -dst of vmbackup, such as fs:///mnt/backups/node1")
	fs.BoolVar(&c.skipCheck, "skipBackupCompleteCheck", false, "Restore also without the object backup_complete.ignore, which vmbackup writes last")
}

// Start implements service.Component.
func (c *component) Start(env *service.Env) error {
	r := &backup.Recovery{FS: vfs.OS(), DataPath: c.dataPath, SkipCompleteCheck: c.skipCheck, Options: c.tool.Options(env)}
	var err error
	if r.Src, err = backuptool.Open("src", c.src); err != nil {
		return err
	}
	if err := c.tool.Serve(env, "restores a backup"); err != nil {
		return err
	}
	env.Task("restore", func(ctx context.Context) error {
		start := time.Now()
		stats, err := backup.Restore(ctx, r)
		if err != nil {
			return err
		}
		env.Logger.Infof("restored %s to %q: %d bytes in %.3f seconds; deleted %d bytes; downloaded %d bytes", r.Src, c.dataPath, stats.Bytes, time.Since(start).Seconds(), stats.Deleted, stats.Moved)
		return nil
	})
	return nil
}

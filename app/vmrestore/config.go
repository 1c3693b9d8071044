package main

import (
	"cmp"
	"context"
	"flag"
	"os"
	"time"

	"vmcluster/app/internal/backuptool"
	"vmcluster/app/internal/flagcompat"
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
	skipAlloc bool
	verify    bool
	tempDir   string
}

// RegisterFlags implements service.Component.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.tool.RegisterFlags(fs, ":8421", "loaded")
	fs.StringVar(&c.dataPath, "storageDataPath", "victoria-metrics-data", "Directory to restore to. The process which uses it must be stopped; what is there and not in the backup is deleted")
	fs.StringVar(&c.src, "src", "", "Backup to restore, the -dst of vmbackup, such as fs:///mnt/backups/node1, s3://bucket/node1, gs://bucket/node1 or azblob://container/node1")
	fs.BoolVar(&c.skipCheck, "skipBackupCompleteCheck", false, "Restore also without the object backup_complete.ignore, which vmbackup writes last")
	fs.BoolVar(&c.skipAlloc, "skipFilePreallocation", false, "Take disk space for files as they come, rather than for each of them at its beginning, which finds a full disk early")
	fs.BoolVar(&c.verify, "verify", false, "Load the backup to a temporary directory, check everything in it and open it as a storage there, instead of restoring it to -storageDataPath")
	fs.StringVar(&c.tempDir, "verifyTempDir", "", "Directory with room for the whole backup, for -verify (default a directory of the system for temporary files)")
	flagcompat.Register(fs, flagcompat.Restore)
}

// Start implements service.Component.
func (c *component) Start(env *service.Env) error {
	src, err := c.tool.Open(context.Background(), "src", c.src)
	if err != nil {
		return err
	}
	do, does := c.restore, "restores a backup"
	if c.verify {
		do, does = c.check, "verifies a backup"
	}
	if err := c.tool.Serve(env, does); err != nil {
		return err
	}
	env.Task("restore", func(ctx context.Context) error { return do(ctx, env, src) })
	return nil
}

func (c *component) restore(ctx context.Context, env *service.Env, src backup.Store) error {
	start := time.Now()
	stats, err := backup.Restore(ctx, &backup.Recovery{
		Src: src, FS: vfs.OS(), DataPath: c.dataPath, SkipCompleteCheck: c.skipCheck, SkipPreallocation: c.skipAlloc, Options: c.tool.Options(env),
	})
	if err != nil {
		return err
	}
	env.Logger.Infof("restored %s to %q: %d bytes in %.3f seconds; deleted %d bytes; downloaded %d bytes", src, c.dataPath, stats.Bytes, time.Since(start).Seconds(), stats.Deleted, stats.Moved)
	return nil
}

// check verifies the backup.
func (c *component) check(ctx context.Context, env *service.Env, src backup.Store) error {
	start := time.Now()
	v, err := backup.Verify(ctx, &backup.Verification{Src: src, FS: vfs.OS(), TempDir: cmp.Or(c.tempDir, os.TempDir()), Budget: env.Budget, Options: c.tool.Options(env)})
	if err != nil {
		return err
	}
	env.Logger.Infof("verified %s in %.3f seconds: %d files with %d bytes, %d parts with %d rows and %d series are as they should be",
		src, time.Since(start).Seconds(), v.Files, v.Bytes, v.Parts, v.Rows, v.Series)
	return nil
}

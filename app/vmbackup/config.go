package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"vmcluster/app/internal/backuptool"
	"vmcluster/app/internal/flagcompat"
	"vmcluster/lib/backup"
	"vmcluster/lib/service"
	"vmcluster/lib/vfs"
)

// component is the whole of vmbackup.
type component struct {
	tool        backuptool.Config
	snapshots   backuptool.Snapshots
	dataPath    string
	dst, origin string
}

// RegisterFlags implements service.Component.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.tool.RegisterFlags(fs, ":8420", "sent")
	c.snapshots.RegisterFlags(fs)
	fs.StringVar(&c.snapshots.Name, "snapshotName", "", "Name of the snapshot to back up, as /snapshot/create has answered it; it is not deleted")
	fs.StringVar(&c.dataPath, "storageDataPath", "victoria-metrics-data", "Directory of the storage, as its own -storageDataPath; it is only read")
	fs.StringVar(&c.dst, "dst", "", "Where the backup goes, such as fs:///mnt/backups/node1, s3://bucket/node1, gs://bucket/node1 or azblob://container/node1; each node needs a place of its own. What is there already is not sent again")
	fs.StringVar(&c.origin, "origin", "", "Another backup from which the server copies what it has; with -storageDataPath= it is copied as a whole")
	flagcompat.Register(fs, flagcompat.Backup)
}

// Start implements service.Component.
func (c *component) Start(env *service.Env) error {
	r := &backup.Request{FS: vfs.OS(), Options: c.tool.Options(env)}
	var err error
	if r.Dst, err = c.tool.Open(context.Background(), "dst", c.dst); err != nil {
		return err
	}
	if c.origin != "" {
		if r.Origin, err = c.tool.Open(context.Background(), "origin", c.origin); err != nil {
			return err
		}
	}
	if err := c.check(r); err != nil {
		return err
	}
	if err := c.snapshots.Connect(env.Logger); err != nil {
		return err
	}
	if err := c.tool.Serve(env, "backs up a snapshot"); err != nil {
		return err
	}
	env.Task("backup", func(ctx context.Context) error { return c.run(ctx, env, r) })
	return nil
}

// check refuses what cannot be meant.
func (c *component) check(r *backup.Request) error {
	copies := c.dataPath == ""
	switch {
	case copies && r.Origin == nil:
		return errors.New("cannot back up without -storageDataPath: set it, or -origin to copy another backup")
	case copies && (c.snapshots.Name != "" || c.snapshots.CreateURL != ""):
		return errors.New("cannot copy -origin and back up a snapshot: set -storageDataPath as well, or neither -snapshotName nor -snapshot.createURL")
	case !copies && (c.snapshots.Name == "") == (c.snapshots.CreateURL == ""):
		return errors.New("cannot tell what to back up: set either -snapshotName, the name of a snapshot, or -snapshot.createURL, such as http://vmstorage:8482/snapshot/create")
	case r.Origin != nil && r.Origin.String() == r.Dst.String():
		return fmt.Errorf("cannot use -origin=%q: it is -dst", c.origin)
	}
	for _, s := range []backup.Store{r.Dst, r.Origin} {
		if err := backuptool.Outside(s, c.dataPath); err != nil {
			return err
		}
	}
	return nil
}

// run makes the backup.
func (c *component) run(ctx context.Context, env *service.Env, r *backup.Request) (err error) {
	start := time.Now()
	if c.dataPath != "" {
		if r.Snapshot, err = c.snapshots.Begin(ctx, env.Logger); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.snapshots.End(env.Logger, r.Snapshot)) }()
		r.Dir = filepath.Join(c.dataPath, "snapshots", r.Snapshot)
	}
	stats, err := backup.Backup(ctx, r)
	if err != nil {
		return err
	}
	env.Logger.Infof("the backup at %s is complete; backed up %d bytes in %.3f seconds; server-side deleted %d bytes; server-side copied %d bytes; uploaded %d bytes",
		r.Dst, stats.Bytes, time.Since(start).Seconds(), stats.Deleted, stats.Copied, stats.Moved)
	return nil
}

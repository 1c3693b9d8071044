package main

import (
	"context"
	"flag"
	"net/http"
	"time"

	"vmcluster/app/internal/backupstore"
	"vmcluster/lib/backup"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/service"
	"vmcluster/lib/vfs"
)

// component is the whole of vmrestore.
type component struct {
	http        httpserver.Config
	dataPath    string
	src         string
	skipCheck   bool
	concurrency int
	limit       flagvalue.Bytes
}

// RegisterFlags implements service.Component.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.http.RegisterFlags(fs, ":8421")
	fs.StringVar(&c.dataPath, "storageDataPath", "victoria-metrics-data", "Directory to restore to. The process which uses it must be stopped; what is there and not in the backup is deleted")
	fs.StringVar(&c.src, "src", "", "Backup to restore, the -dst of vmbackup, such as fs:///mnt/backups/node1")
	fs.BoolVar(&c.skipCheck, "skipBackupCompleteCheck", false, "Restore also without the object backup_complete.ignore, which vmbackup writes last")
	fs.IntVar(&c.concurrency, "concurrency", 10, "How many files are loaded at once")
	fs.Var(&c.limit, "maxBytesPerSecond", "Most bytes loaded per second; 0 means as fast as it goes")
}

// Start implements service.Component.
func (c *component) Start(env *service.Env) error {
	r := &backup.Recovery{FS: vfs.OS(), DataPath: c.dataPath, SkipCompleteCheck: c.skipCheck, Options: backup.Options{
		Concurrency: c.concurrency, MaxBytesPerSecond: int64(c.limit), Logger: env.Logger, Metrics: env.Metrics,
	}}
	var err error
	if r.Src, err = backupstore.Open(context.Background(), "src", c.src); err != nil {
		return err
	}
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags,
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			return httpserver.ServeIndex(w, r, env.Name, "restores a backup", "/metrics", "/flags", "/debug/pprof/")
		},
	})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
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

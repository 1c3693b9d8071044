package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"vmcluster/app/internal/backuptool"
	"vmcluster/app/internal/flagcompat"
	"vmcluster/lib/backup"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/service"
	"vmcluster/lib/vfs"
)

// component is the whole of vmbackupmanager.
type component struct {
	tool          backuptool.Config
	snapshots     backuptool.Snapshots
	dataPath, dst string
	apiURL        string
	authKey       flagvalue.Secret
	disabled      map[string]*bool
	keep          map[string]*int
	unscheduled   bool
	runOnStart    bool
	interval      flagvalue.Duration
	zone          string
	verify        flagvalue.Duration
	tempDir       string
	tag           string
}

func (c *component) fs() vfs.FS { return vfs.OS() }

// RegisterFlags implements service.Component.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.tool.RegisterFlags(fs, ":8300", "sent or loaded")
	c.snapshots.RegisterFlags(fs)
	fs.StringVar(&c.dataPath, "storageDataPath", "victoria-metrics-data", "Directory of the storage, as its own -storageDataPath")
	fs.StringVar(&c.dst, "dst", "", "Where the backups go, such as s3://bucket/node1; each node needs a place of its own")
	fs.StringVar(&c.apiURL, "apiURL", "http://127.0.0.1:8300", "Address of the vmbackupmanager which commands ask")
	fs.Var(&c.authKey, authKeyFlag, "Value which the authKey argument of "+backupsPath+" and "+restorePath+" must have, and which commands send; it stands for the password of -httpAuth.*")
	c.disabled, c.keep = map[string]*bool{}, map[string]*int{}
	for kind, title := range map[string]string{hourly: "Hourly", daily: "Daily", weekly: "Weekly", monthly: "Monthly"} {
		c.disabled[kind] = fs.Bool("disable"+title, false, "Make no "+kind+" backups")
		c.keep[kind] = fs.Int("keepLast"+title, keepAll, "How many "+kind+" backups to keep: -1 keeps all, 0 deletes all. Locked ones stay")
	}
	fs.BoolVar(&c.unscheduled, "disableScheduledBackups", false, "Make backups only when asked to by "+backupsPath+" or vmbackupmanager backup create")
	fs.BoolVar(&c.runOnStart, "runOnStart", false, "Make a backup right after the start, also when the one of this hour or day is there")
	fs.Var(&c.interval, "backupInterval", "Time between backups; 0 means an hour, or with -disableHourly a day, from midnight in -backupScheduleTimezone on")
	fs.StringVar(&c.zone, "backupScheduleTimezone", "UTC", "Time zone in which days, weeks and months of backups begin, such as Europe/Paris")
	fs.Var(&c.verify, "verifyInterval", "Time between verifications of the newest backup, each of which loads all of it to -verifyTempDir for a while; 0 means never")
	fs.StringVar(&c.tempDir, "verifyTempDir", "", "Directory with room for a whole backup, to verify it there (default a directory of the system for temporary files)")
	fs.StringVar(&c.tag, "backupTypeTagName", "", "Name of a tag which objects in s3:// get, with the kind of the backup as value, such as daily; for lifecycle rules")
	service.RegisterNoEffect(fs, []service.FlagSpec{
		{Name: "eula", IsBool: true, Reason: "there is no licence to agree to"},
		{Name: "license", Reason: "it takes no licence"},
		{Name: "license.forceOffline", IsBool: true, Reason: "it takes no licence"},
		{Name: "licenseFile", Reason: "it takes no licence"},
	})
	flagcompat.Register(fs, flagcompat.BackupManager)
}

// Start implements service.Component.
func (c *component) Start(env *service.Env) error {
	o, err := c.options(env)
	if err != nil {
		return err
	}
	m := newManager(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.loop(ctx)
	}()
	env.OnStop("backups", func() error {
		cancel()
		<-done
		return nil
	})
	a := &api{m: m, authKey: c.authKey}
	return c.tool.ServeAPI(env, a.hasKey, func(w http.ResponseWriter, r *http.Request) bool {
		return a.handle(w, r) || httpserver.ServeIndex(w, r, env.Name, "backs up a node on a schedule", backupsPath, "/metrics", "/flags", "/debug/pprof/")
	})
}

// options returns what the flags say, or what is wrong with them.
func (c *component) options(env *service.Env) (o options, err error) {
	o = options{
		dst: c.dst, snapshots: &c.snapshots, fs: c.fs(), dataPath: c.dataPath, backups: c.tool.Options(env), now: time.Now, runFirst: c.runOnStart,
		poll: pollInterval, verifyInterval: c.verify.D(), tempDir: cmp.Or(c.tempDir, os.TempDir()), budget: env.Budget,
		open: c.open,
	}
	if c.snapshots.CreateURL == "" {
		return o, errors.New("cannot make snapshots: set -snapshot.createURL, such as http://127.0.0.1:8482/snapshot/create")
	}
	if err := c.snapshots.Connect(env.Logger); err != nil {
		return o, err
	}
	if o.root, err = o.open(context.Background(), c.dst); err != nil {
		return o, err
	}
	if _, err = o.open(context.Background(), strings.TrimSuffix(c.dst, "/")+"/"+latest); err != nil { // it may lack tags
		return o, err
	}
	if err := backuptool.Outside(o.root, c.dataPath); err != nil {
		return o, err
	}
	if o.policy, err = c.policy(); err != nil {
		return o, err
	}
	if o.policy.interval > 0 {
		o.poll = min(o.poll, o.policy.interval/4)
	}
	return o, nil
}

// open opens a store. One of a backup below -dst gets the tag of its kind.
func (c *component) open(ctx context.Context, url string) (backup.Store, error) {
	name, ok := strings.CutPrefix(url, strings.TrimSuffix(c.dst, "/")+"/")
	if kind, known := kindOf(name); ok && known && c.tag != "" {
		return c.tool.OpenTagged(ctx, "dst", url, c.tag, kind)
	}
	return c.tool.Open(ctx, "dst", url)
}

// pollInterval is the time between looks at the clock, which may be set meanwhile.
const pollInterval = 5 * time.Second

// policy returns what the flags say of the schedule.
func (c *component) policy() (p policy, err error) {
	p = policy{keep: map[string]int{}, interval: c.interval.D(), byDay: *c.disabled[hourly], scheduled: !c.unscheduled}
	if p.interval < 0 || p.interval%time.Second != 0 {
		return p, fmt.Errorf("cannot make backups every -backupInterval=%s: want whole seconds", p.interval)
	}
	if p.zone, err = time.LoadLocation(c.zone); err != nil {
		return p, fmt.Errorf("cannot use -backupScheduleTimezone=%q: want a name such as UTC or Europe/Paris: %w", c.zone, err)
	}
	for _, kind := range kinds() {
		if p.keep[kind] = *c.keep[kind]; p.keep[kind] < keepAll {
			return p, fmt.Errorf("cannot keep %d %s backups: want a number, or -1 for all", p.keep[kind], kind)
		}
		if !*c.disabled[kind] && p.keep[kind] != 0 {
			p.makes = append(p.makes, kind)
		}
	}
	return p, nil
}

package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/pushmetrics"
)

// Component is what a binary runs.
type Component interface {
	// RegisterFlags registers all flags of the component.
	RegisterFlags(fs *flag.FlagSet)
	// Start starts the component and registers with env how to stop it.
	Start(env *Env) error
}

// Env is what a starting component gets.
type Env struct {
	Name    string
	Version string
	Flags   *flag.FlagSet
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget
	Stdout  io.Writer // for the answers of commands
	stops   []stop
	aborts  chan error // of Abort, or taskEnded; room for one
	failed  bool       // the task
	checked bool
}

// taskEnded stands among aborts for a task that has ended.
type taskEnded struct{}

// Error implements error.
func (taskEnded) Error() string { return "the task has ended" }

type stop struct {
	what string
	f    func() error
}

// OnStop registers a function to be called at shutdown. The function that was
// registered last is called first.
func (e *Env) OnStop(what string, f func() error) { e.stops = append(e.stops, stop{what, f}) }

// RegisterDryRun registers -dryRun.
func RegisterDryRun(fs *flag.FlagSet, dryRun *bool) {
	fs.BoolVar(dryRun, "dryRun", false, "Look at the flags and at all files and URLs they name, say what is wrong with them, and end: with status 0 if nothing is. No port is opened, and no data is touched")
}

// Checked is what Start returns instead of starting anything when -dryRun is set and the configuration is good. The process ends with status 0.
func (e *Env) Checked() error {
	e.checked = true
	return nil
}

// Abort stops the process with a status other than 0, for a fault that only a restart can mend: whoever looks after the process
// starts it again. Reasons after the first are ignored. It is safe for concurrent use.
func (e *Env) Abort(reason error) {
	select {
	case e.aborts <- reason:
	default:
	}
}

// Task runs do in the background, and ends the process when it has returned: with status 0, or, when it returned an error, with 1.
// A signal cancels its context.
func (e *Env) Task(what string, do func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- do(ctx)
		e.Abort(taskEnded{})
	}()
	e.OnStop(what, func() error {
		cancel()
		if err := <-done; err != nil {
			e.Logger.Errorf("%s", err)
			e.failed = true
		}
		return nil
	})
}

// stopAll calls all stop functions and returns whether all succeeded.
func (e *Env) stopAll() bool {
	ok := true
	for _, s := range slices.Backward(e.stops) {
		start := time.Now()
		if err := s.f(); err != nil {
			ok = false
			e.Logger.Errorf("cannot stop %s: %s", s.what, err)
			continue
		}
		e.Logger.Infof("stopped %s in %.3f seconds", s.what, time.Since(start).Seconds())
	}
	return ok
}

// Main runs the component until SIGINT or SIGTERM, or the command which the command line asks for, and returns the exit status.
func Main(name, version string, c Component, commands ...Command) int {
	timersErr := coarsenTimers()
	m := runner{name: name, version: version, component: c, commands: commands, args: os.Args[1:], lookup: os.LookupEnv, stdout: os.Stdout, stderr: os.Stderr}
	// A second signal finds the default action restored and ends the process.
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	m.timersErr = timersErr
	m.wait = func(aborts <-chan error) (string, error) {
		defer signal.Stop(ch)
		select {
		case sig := <-ch:
			return sig.String(), nil
		case err := <-aborts:
			return "", err
		}
	}
	return m.run()
}

type runner struct {
	name, version  string
	component      Component
	commands       []Command
	args           []string
	lookup         lookupEnv
	stdout, stderr io.Writer
	push           pushmetrics.Config
	secrets        []*secret
	timersErr      error                                                  // why timers are as they were
	wait           func(aborts <-chan error) (signal string, abort error) // returns when it is time to stop
}

func (m *runner) run() int {
	fs := flag.NewFlagSet(m.name, flag.ContinueOnError)
	var logConfig logger.Config
	var memoryConfig memory.Config
	logConfig.RegisterFlags(fs)
	memoryConfig.RegisterFlags(fs)
	m.push.RegisterFlags(fs)
	showVersion := fs.Bool("version", false, "Print the version and exit")
	m.component.RegisterFlags(fs)
	var command *Command
	var args []string
	words, err := parseArgs(fs, m.args, m.lookup)
	if err == nil {
		m.secrets, err = findSecrets(fs)
	}
	if err == nil && len(words) > 0 {
		command, args, err = m.find(words)
	}
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			m.usage(fs)
			return 0
		}
		m.say(m.stderr, err.Error())
		return 2
	}
	if *showVersion {
		m.say(m.stdout, m.name+" "+m.version)
		return 0
	}
	set := metrics.NewSet()
	out := m.stderr
	if logConfig.Output == "stdout" {
		out = m.stdout
	} else if logConfig.Output != "stderr" {
		m.say(m.stderr, fmt.Sprintf("unsupported -loggerOutput=%q: want stderr or stdout", logConfig.Output))
		return 2
	}
	l, err := logger.New(&logConfig, out, set)
	if err != nil {
		m.say(m.stderr, err.Error())
		return 2
	}
	env := &Env{Name: m.name, Version: m.version, Flags: fs, Logger: l, Metrics: set, Budget: memoryConfig.NewBudget(), Stdout: m.stdout, aborts: make(chan error, 1)}
	if command != nil {
		return m.call(env, command, args)
	}
	return m.serve(env)
}

func (m *runner) serve(env *Env) int {
	logStart(env)
	if m.timersErr != nil {
		env.Logger.Infof("cannot let timers be late, which costs CPU time when writes are few and small: %s", m.timersErr)
	}
	defer memory.StartPacer(env.Budget).Stop()
	metrics.RegisterProcess(env.Metrics, env.Name+"-"+env.Version)
	env.Metrics.Gauge("vm_available_memory_bytes", func() float64 { return float64(memory.Available()) })
	env.Metrics.Gauge("vm_allowed_memory_bytes", func() float64 { return float64(env.Budget.Limit()) })
	env.Metrics.Gauge("vm_reserved_memory_bytes", func() float64 { return float64(env.Budget.Used()) })
	pusher, err := pushmetrics.New(pushmetrics.Options{Config: &m.push, Logger: env.Logger, Metrics: env.Metrics})
	if err == nil {
		err = m.component.Start(env)
	}
	if err != nil {
		env.Logger.Fatalf("cannot start %s: %s", env.Name, err)
		env.stopAll()
		return 1
	}
	if env.checked {
		if !env.stopAll() {
			return 1
		}
		env.Logger.Infof("the configuration of %s is good; -dryRun ends here", env.Name)
		return 0
	}
	env.OnStop("reading of secrets", watchSecrets(m.secrets, env).stop)
	if len(m.push.URLs) > 0 {
		pusher.Start()
		env.OnStop("pushing of metrics", pusher.Stop)
	}
	signal, abort := m.wait(env.aborts)
	start := time.Now()
	if _, ended := errors.AsType[taskEnded](abort); ended {
		abort = nil
	} else if abort != nil {
		env.Logger.Errorf("shutting down with status 1, to be started again: %s", abort)
	} else {
		env.Logger.Infof("received signal %s; shutting down", signal)
	}
	ok := env.stopAll() && abort == nil && !env.failed
	env.Logger.Infof("the %s has been stopped in %.3f seconds", env.Name, time.Since(start).Seconds())
	if !ok {
		return 1
	}
	return 0
}

func logStart(env *Env) {
	env.Logger.Infof("build version: %s-%s", env.Name, env.Version)
	env.Logger.Infof("command-line flags")
	env.Flags.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		if flagvalue.IsSecret(f.Name) {
			value = "secret"
		}
		env.Logger.Infof("  -%s=%q", f.Name, value)
	})
	if names := ineffective(env.Flags); len(names) > 0 {
		env.Logger.Warnf("flags without effect here, see docs/compatibility.md: -%s", strings.Join(names, ", -"))
	}
}

func (m *runner) usage(fs *flag.FlagSet) {
	m.say(m.stdout, "usage: "+m.name+" [flags]")
	for i := range m.commands {
		m.say(m.stdout, "       "+m.name+" "+m.commands[i].usage()+" [flags]\n             "+m.commands[i].Help)
	}
	m.say(m.stdout, "\nFlags, each also written with two dashes:")
	fs.SetOutput(m.stdout)
	fs.PrintDefaults()
}

// say prints a line for a person at a terminal, who cannot be told otherwise if that fails.
func (m *runner) say(w io.Writer, line string) { _, _ = fmt.Fprintln(w, line) }

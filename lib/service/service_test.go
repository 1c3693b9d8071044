package service

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/flagvalue"
)

// testFlags registers one flag of each kind and parses args and env.
type testFlags struct {
	nodes    flagvalue.Strings
	name     string
	password flagvalue.Secret
	verbose  bool
}

func parse(t *testing.T, args []string, env map[string]string) (*testFlags, *flag.FlagSet, error) {
	t.Helper()
	var f testFlags
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.Var(&f.nodes, "storageNode", "")
	fs.StringVar(&f.name, "insert.name", "default", "")
	fs.Var(&f.password, "httpAuth.password", "")
	fs.BoolVar(&f.verbose, "verbose", false, "")
	RegisterNoEffect(fs, []FlagSpec{{Name: "bigMergeConcurrency", Reason: "merges pace themselves"}})
	RegisterUnsupported(fs, []FlagSpec{{Name: "tls", IsBool: true, Reason: "no TLS yet"}, {Name: "replicationFactor", Neutral: []string{"1"}, Reason: "one copy only"}})
	words, err := parseArgs(fs, args, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err == nil {
		_, err = findSecrets(fs)
	}
	if err == nil && len(words) > 0 {
		_, _, err = (&runner{}).find(words)
	}
	return &f, fs, err
}

func TestFlags(t *testing.T) {
	f, _, err := parse(t, []string{"-storageNode=a:1,b:2", "--storageNode", "c:3", "--verbose", "-insert.name=x"}, nil)
	if err != nil || !slices.Equal(f.nodes, []string{"a:1", "b:2", "c:3"}) || !f.verbose || f.name != "x" {
		t.Fatalf("got %+v, %v", f, err)
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"VM_insert_name": "fromenv", "VM_storageNode": "a,b", "VM_verbose": "true", "insert_name": "unprefixed"}
	f, _, err := parse(t, []string{"-envflag.enable=true", "--envflag.prefix=VM_", "-storageNode=c"}, env)
	if err != nil || f.name != "fromenv" || !f.verbose || !slices.Equal(f.nodes, []string{"c"}) {
		t.Fatalf("got %+v, %v; the command line must win over the environment", f, err)
	}
	if f, _, err := parse(t, nil, map[string]string{"insert_name": "x"}); err != nil || f.name != "default" {
		t.Fatalf("the environment was read without -envflag.enable: %+v, %v", f, err)
	}
	if _, _, err := parse(t, []string{"-envflag.enable"}, map[string]string{"verbose": "maybe"}); err == nil || !strings.Contains(err.Error(), "environment variable verbose") {
		t.Fatalf("got %v", err)
	}
}

func TestExpansion(t *testing.T) {
	env := map[string]string{"A": "x%{B}", "B": "y", "LOOP": "%{LOOP}+"}
	f, _, err := parse(t, []string{"-insert.name=%{A}-%{NOSUCH}"}, env)
	if err != nil || f.name != "xy-%{NOSUCH}" {
		t.Fatalf("got %q, %v", f.name, err)
	}
	if _, _, err := parse(t, []string{"-insert.name=%{LOOP}"}, env); err == nil {
		t.Fatal("a circle of variables was accepted")
	}
}

func TestSecretFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := parse(t, []string{"-httpAuth.password=file://" + path}, nil)
	if err != nil || f.password.Get() != "hush" {
		t.Fatalf("got %q, %v", f.password.Get(), err)
	}
}

// TestSecretFromURL fetches a secret, and fails without showing the address, which may hold a password.
func TestSecretFromURL(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			_, _ = w.Write([]byte("hush\n"))
		case "/long":
			_, _ = w.Write(make([]byte, 1<<20))
		default:
			http.Error(w, "no", http.StatusForbidden)
		}
	}))
	address := strings.Replace(server.URL, "://", "://me:pa55@", 1)
	if f, _, err := parse(t, []string{"-httpAuth.password=" + address + "/good"}, nil); err != nil || f.password.Get() != "hush" {
		t.Errorf("got %q, %v", f.password.Get(), err)
	}
	for path, want := range map[string]string{"/bad": "403", "/long": "more than"} {
		if _, _, err := parse(t, []string{"-httpAuth.password=" + address + path}, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "-httpAuth.password from URL") {
			t.Errorf("%s gives %v", path, err)
		}
	}
	server.Close()
	if _, _, err := parse(t, []string{"-httpAuth.password=" + address + "/good"}, nil); err == nil || strings.Contains(err.Error(), "pa55") {
		t.Errorf("a server which is gone gives %v", err)
	}
}

func TestFlagErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct{ arg, want string }{
		{"-storagenode=a", "did you mean -storageNode?"},
		{"-insert.nam=x", "did you mean -insert.name?"},
		{"-completelydifferent", "all flags are listed by -help"},
		{"-verbose=perhaps", "invalid boolean value"},
		{"-tls", "does not support -tls: no TLS yet"},
		{"-replicationFactor=2", "does not support -replicationFactor"},
		{"stray", `unexpected argument "stray"`},
	} {
		_, _, err := parse(t, []string{tc.arg}, nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s gives %v; want it to say %q", tc.arg, err, tc.want)
		}
	}
	_, fs, err := parse(t, []string{"-replicationFactor=1", "-tls=false", "-bigMergeConcurrency=3"}, nil)
	if err != nil || !slices.Equal(ineffective(fs), []string{"bigMergeConcurrency"}) {
		t.Errorf("got %v, %v", ineffective(fs), err)
	}
}

// component records the order of its life.
type component struct {
	log   *[]string
	fail  error
	abort error
	task  func(ctx context.Context) error

	commands []Command
}

func (c component) RegisterFlags(fs *flag.FlagSet) { fs.Bool("x", false, "a flag of the component") }

func (c component) Start(env *Env) error {
	for _, what := range []string{"first", "second"} {
		*c.log = append(*c.log, "start "+what)
		env.OnStop(what, func() error {
			*c.log = append(*c.log, "stop "+what)
			return nil
		})
	}
	if c.abort != nil {
		env.Abort(c.abort)
		env.Abort(errors.New("a second reason"))
	}
	if c.task != nil {
		env.Task("the task", c.task)
	}
	return c.fail
}

func run(t *testing.T, c component, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	m := runner{name: "test", version: "v1", component: c, commands: c.commands, args: args, lookup: os.LookupEnv, stdout: &out, stderr: &err, wait: func(aborts <-chan error) (string, error) {
		*c.log = append(*c.log, "wait")
		select {
		case err := <-aborts:
			return "", err
		default:
			return "terminated", nil
		}
	}}
	return m.run(), out.String(), err.String()
}

func TestStopsInReverseOrder(t *testing.T) {
	var log []string
	status, _, stderr := run(t, component{log: &log})
	want := []string{"start first", "start second", "wait", "stop second", "stop first"}
	if status != 0 || !slices.Equal(log, want) {
		t.Errorf("status %d, log %q\n%s", status, log, stderr)
	}
}

// TestAbort: a fault which only a restart can mend stops everything in order, with a status that makes somebody restart it.
func TestAbort(t *testing.T) {
	var log []string
	status, _, stderr := run(t, component{log: &log, abort: errors.New("the disk has failed")})
	want := []string{"start first", "start second", "wait", "stop second", "stop first"}
	if status != 1 || !slices.Equal(log, want) || !strings.Contains(stderr, "to be started again: the disk has failed") {
		t.Errorf("status %d, log %q\n%s", status, log, stderr)
	}
}

// TestTask: the end of a task is that of the process, and its error the status; a signal cancels it.
func TestTask(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(ctx context.Context) error
		status int
		stderr string
	}{
		"done":      {func(context.Context) error { return nil }, 0, "stopped the task"},
		"failed":    {func(context.Context) error { return errors.New("no bucket") }, 1, "no bucket"},
		"cancelled": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 1, "context canceled"},
	} {
		var log []string
		status, _, stderr := run(t, component{log: &log, task: c.do})
		if status != c.status || !strings.Contains(stderr, c.stderr) || strings.Contains(stderr, "to be started again") {
			t.Errorf("%s: status %d\n%s", name, status, stderr)
		}
	}
}

func TestFailedStartStopsWhatRuns(t *testing.T) {
	var log []string
	status, _, stderr := run(t, component{log: &log, fail: errors.New("no disk")})
	if want := []string{"start first", "start second", "stop second", "stop first"}; status != 1 || !slices.Equal(log, want) {
		t.Errorf("status %d, log %q", status, log)
	}
	if !strings.Contains(stderr, "cannot start test: no disk") {
		t.Errorf("stderr does not say why:\n%s", stderr)
	}
}

func TestVersionHelpAndErrors(t *testing.T) {
	var log []string
	if status, out, _ := run(t, component{log: &log}, "-version"); status != 0 || out != "test v1\n" {
		t.Errorf("-version gives status %d, %q", status, out)
	}
	if status, out, _ := run(t, component{log: &log}, "-help"); status != 0 || !strings.Contains(out, "a flag of the component") {
		t.Errorf("-help gives status %d, %q", status, out)
	}
	for _, bad := range []string{"-nosuch", "-loggerFormat=xml", "-loggerOutput=tape", "-loggerLevel=LOUD"} {
		if status, _, stderr := run(t, component{log: &log}, bad); status != 2 || stderr == "" {
			t.Errorf("%s gives status %d, %q", bad, status, stderr)
		}
	}
	if len(log) > 0 {
		t.Errorf("the component was started: %q", log)
	}
}

// TestCommands: words stand before, between or after flags; a command runs instead of the component, and a signal cancels it.
func TestCommands(t *testing.T) {
	var log []string
	commands := []Command{
		{Name: "item list", Help: "Lists.", Run: func(_ context.Context, env *Env, _ []string) error {
			_, err := env.Stdout.Write([]byte("a b"))
			return err
		}},
		{Name: "item", Args: []string{"name"}, Help: "Shows.", Run: func(_ context.Context, env *Env, args []string) error {
			_, err := env.Stdout.Write([]byte("item " + args[0]))
			return err
		}},
		{Name: "wait", Help: "Waits.", Run: func(ctx context.Context, _ *Env, _ []string) error { <-ctx.Done(); return ctx.Err() }},
	}
	for args, want := range map[string]struct {
		status         int
		stdout, stderr string
	}{
		"item list":                 {0, "a b", ""},
		"-loggerLevel=INFO item x":  {0, "item x", ""},
		"item -loggerLevel=INFO y":  {0, "item y", ""},
		"item z --loggerLevel=INFO": {0, "item z", ""},
		"wait":                      {1, "", "context canceled\n"},
		"item":                      {2, "", "cannot parse command line: there is no command \"item\"; there are: item list, item <name>, wait\n"},
		"list item":                 {2, "", "cannot parse command line: there is no command \"list item\"; there are: item list, item <name>, wait\n"},
	} {
		status, stdout, stderr := run(t, component{log: &log, commands: commands}, strings.Fields(args)...)
		if status != want.status || stdout != want.stdout || stderr != want.stderr {
			t.Errorf("%s: got %d, %q, %q", args, status, stdout, stderr)
		}
	}
	if slices.Contains(log, "start first") {
		t.Errorf("the component was started: %q", log)
	}
	if _, out, _ := run(t, component{log: &log, commands: commands}, "-help"); !strings.Contains(out, "test item <name> [flags]\n             Shows.") {
		t.Errorf("-help does not show commands: %s", out)
	}
}

func TestSharedFlagsSetBothComponents(t *testing.T) {
	var a, b, c int
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.IntVar(&a, "limit", 1, "")
	RegisterShared(fs, func(fs *flag.FlagSet) {
		fs.IntVar(&b, "limit", 2, "")
		fs.IntVar(&c, "other", 3, "")
	})
	if a != 1 || b != 2 || c != 3 {
		t.Fatalf("registering changed a default: %d %d %d", a, b, c)
	}
	if err := fs.Parse([]string{"-limit=7", "-other=8"}); err != nil || a != 7 || b != 7 || c != 8 {
		t.Fatalf("got %d %d %d, %v", a, b, c, err)
	}
}

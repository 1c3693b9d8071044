package apptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds every start and stop, patience every other wait. Both are generous, since the
// machine may be busy with other things.
const (
	startTimeout = 30 * time.Second
	patience     = 30 * time.Second
)

// suite is what all tests of a run share.
var suite struct {
	build sync.Once
	dir   string // of the binaries
	err   error

	mu    sync.Mutex
	ports map[int]bool // handed out by freePort
}

func TestMain(m *testing.M) {
	status := m.Run()
	if suite.dir != "" && os.Getenv("VMCLUSTER_BIN") == "" {
		_ = os.RemoveAll(suite.dir) // the system cleans its temporary folder anyway
	}
	os.Exit(status)
}

// binary returns the path of a binary of this repository. All are built by the first call.
func binary(t testing.TB, name string) string {
	t.Helper()
	suite.build.Do(func() { suite.dir, suite.err = buildBinaries() })
	if suite.err != nil {
		t.Fatal(suite.err)
	}
	return filepath.Join(suite.dir, name)
}

func buildBinaries() (string, error) {
	if dir := os.Getenv("VMCLUSTER_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.MkdirTemp("", "apptest")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"./app/vmstorage", "./app/vminsert", "./app/vmselect", "./app/victoria-metrics", "./app/vmbackup", "./app/vmrestore", "./app/vmbackupmanager", "./app/internal/clusterup")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("cannot build the binaries: %w\n%s", err, out)
	}
	return dir, nil
}

// peer returns the path of a program which is not ours, such as "prometheus". The test is skipped
// without it.
func peer(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("VMCLUSTER_REQUIRE_PEERS") != "" {
		t.Fatalf("%s is not installed, and VMCLUSTER_REQUIRE_PEERS demands it: %s", name, err)
	}
	t.Skipf("%s is not installed; install it, for example with `apt-get install %s`, to run this test", name, name)
	return ""
}

// freePort returns a port nobody listens at. It lies below the range from which the system takes the
// ports of outgoing connections, so that it is still free when a killed process is started again.
func freePort(t testing.TB) int {
	t.Helper()
	suite.mu.Lock()
	defer suite.mu.Unlock()
	if suite.ports == nil {
		suite.ports = map[int]bool{}
	}
	for range 1000 {
		port := 12000 + rand.IntN(18000)
		if suite.ports[port] {
			continue
		}
		suite.ports[port] = true
		ln, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		ln.Close()
		return port
	}
	t.Fatal("no free port found")
	return 0
}

func freeAddr(t testing.TB) string { return loopback(freePort(t)) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// eventually calls f until it returns nil, at most for the given time.
func eventually(t testing.TB, timeout time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, timeout, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// output collects what a process writes. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// record is one record of a log.
type record struct{ TS, Level, Caller, Msg string }

// records returns the log's complete records, whichever format they have.
func (o *output) records() []record {
	var list []record
	for line := range strings.Lines(o.String()) {
		text, complete := strings.CutSuffix(line, "\n")
		if !complete {
			break
		}
		var r record
		if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &r) == nil {
			list = append(list, r)
			continue
		}
		fields := strings.SplitN(text, "\t", 4)
		if len(fields) == 4 {
			r = record{fields[0], fields[1], fields[2], fields[3]}
		} else {
			r = record{Msg: text}
		}
		list = append(list, r)
	}
	return list
}

// find returns the submatches of the first message that matches, or nil.
func (o *output) find(re *regexp.Regexp) []string {
	for _, r := range o.records() {
		if m := re.FindStringSubmatch(r.Msg); m != nil {
			return m
		}
	}
	return nil
}

// spec describes a process to start.
type spec struct {
	name   string // for messages; the binary's when empty
	binary string // a binary of ours, or a path
	args   []string
	env    []string // besides PATH, HOME and TMPDIR
}

// process is a running program. Its methods are for the goroutine of the test.
type process struct {
	t       testing.TB
	spec    spec
	dir     string // working directory
	cmd     *exec.Cmd
	stderr  *output
	stdout  *output
	exited  chan struct{} // closed when it has ended
	err     error         // of Wait, valid after exited
	earlier []*output     // logs of earlier runs
}

// start starts a process, which is killed at the end of the test if it is still there.
func start(t testing.TB, s spec) *process {
	t.Helper()
	if s.name == "" {
		s.name = filepath.Base(s.binary)
	}
	p := &process{t: t, spec: s, dir: t.TempDir()}
	p.run()
	t.Cleanup(func() {
		p.kill()
		p.checkSound()
		if t.Failed() {
			p.dump()
		}
	})
	return p
}

// run starts the process, for the first time or again.
func (p *process) run() {
	p.t.Helper()
	path := p.spec.binary
	if !filepath.IsAbs(path) {
		path = binary(p.t, path)
	}
	if p.stderr != nil {
		p.earlier = append(p.earlier, p.stderr)
	}
	p.stderr, p.stdout, p.exited = &output{}, &output{}, make(chan struct{})
	p.cmd = exec.Command(path, p.spec.args...)
	p.cmd.Dir = p.dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "TMPDIR=" + os.TempDir()}, p.spec.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	// If the tests themselves are killed, nobody else stops the process. The tool which has
	// children of its own gets the chance to stop them.
	death := syscall.SIGKILL
	if p.spec.binary == "clusterup" {
		death = syscall.SIGINT
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: death}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("cannot start %s: %s", p.spec.name, err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		p.err = cmd.Wait()
		close(exited)
	}(p.cmd, p.exited)
}

// checkSound fails the test when the process has crashed, or when it was built with the race detector and that has spoken.
func (p *process) checkSound() {
	for _, o := range append(p.earlier, p.stderr) {
		for _, sign := range []string{"DATA RACE", "\npanic: ", "\nfatal error: "} {
			if strings.Contains("\n"+o.String(), sign) {
				p.t.Errorf("%s has written %q to its log", p.spec.name, sign)
			}
		}
	}
}

// dump shows the end of the logs.
func (p *process) dump() {
	const most = 6000
	for i, o := range append(p.earlier, p.stderr, p.stdout) {
		text := o.String()
		if len(text) > most {
			text = "...\n" + text[len(text)-most:]
		}
		if text != "" {
			p.t.Logf("output %d of %s %s:\n%s", i+1, p.spec.name, strings.Join(p.spec.args, " "), text)
		}
	}
}

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("cannot send %s to %s: %s", s, p.spec.name, err)
	}
}

// freeze stops the process with SIGSTOP and returns when all its threads stand still, which takes the kernel a moment.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, 10*time.Second, p.spec.name+" stands still", func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		if err != nil || len(tasks) == 0 {
			return fmt.Errorf("cannot read the states of its threads: %w", err)
		}
		for _, path := range tasks {
			// The state follows the name, which is in parentheses and may hold anything.
			stat, err := os.ReadFile(path)
			if _, after, ok := bytes.Cut(stat, []byte(") ")); err != nil || !ok || after[0] != 'T' {
				return fmt.Errorf("%s has %q, %w", path, stat, err)
			}
		}
		return nil
	})
}

// kill ends the process at once, as the kernel would when memory runs out.
func (p *process) kill() {
	p.t.Helper()
	if !p.running() {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// wait waits until the process has ended and returns its exit status.
func (p *process) wait(timeout time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(timeout):
		p.t.Fatalf("%s has not ended within %s", p.spec.name, timeout)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop asks the process to end, and fails the test unless it does so soon and with status 0.
func (p *process) stop(s syscall.Signal) {
	p.t.Helper()
	p.signal(s)
	if status := p.wait(startTimeout); status != 0 {
		p.t.Errorf("%s ended with status %d after %s", p.spec.name, status, s)
	}
}

// waitLog waits for a message and returns the submatches of re, which must match within the message.
func (p *process) waitLog(re string) []string {
	p.t.Helper()
	compiled := regexp.MustCompile(re)
	var m []string
	eventually(p.t, startTimeout, fmt.Sprintf("message %q in the log of %s", re, p.spec.name), func() error {
		ended := !p.running() // before looking, so that nothing is overlooked
		if m = p.stderr.find(compiled); m != nil {
			return nil
		}
		if ended {
			p.t.Fatalf("%s ended before it logged %q: %v", p.spec.name, re, p.err)
		}
		return errors.New("it is not there")
	})
	return m
}

// httpAddr waits until the HTTP server listens and returns its address.
func (p *process) httpAddr() string {
	p.t.Helper()
	return p.waitLog(`^started server at https?://([^/]+)/$`)[1]
}

// ran is the outcome of a program that ended by itself.
type ran struct {
	stdout, stderr string
	status         int
}

// runToEnd runs a program which is expected to end by itself.
func runToEnd(t testing.TB, s spec) ran {
	t.Helper()
	p := start(t, s)
	status := p.wait(startTimeout)
	return ran{stdout: p.stdout.String(), stderr: p.stderr.String(), status: status}
}

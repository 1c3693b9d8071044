package units

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcluster/deployment/tests/objects"
)

// patience bounds every wait. It is generous, since the machine may be busy with other things.
const patience = 90 * time.Second

// World is a set of units which reach each other by the names they have in their cluster.
type World struct {
	t       testing.TB
	bin     string            // directory of our binaries
	hosts   map[string]string // name:port -> address, for all
	running []*running
	addrs   map[string]map[int]string // pod -> port -> address
	claims  map[string]string         // name -> directory
}

type running struct {
	unit   *Unit
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// NewWorld makes an empty world, in which the binaries of the directory bin run.
func NewWorld(t testing.TB, bin string) *World {
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	return &World{t: t, bin: abs, hosts: map[string]string{}, addrs: map[string]map[int]string{}, claims: map[string]string{}}
}

// Addr returns the address on loopback at which a pod's port is, or will be.
func (w *World) Addr(pod string, port int) string {
	ports := w.addrs[pod]
	if ports == nil {
		ports = map[int]string{}
		w.addrs[pod] = ports
	}
	if ports[port] == "" {
		ports[port] = freeAddr(w.t)
	}
	return ports[port]
}

// Name lets units reach addr by name, which has a port.
func (w *World) Name(name, addr string) { w.hosts[name] = addr }

// Host returns the address that stands for a name with a port.
func (w *World) Host(name string) string {
	w.t.Helper()
	if w.hosts[name] == "" {
		w.t.Fatalf("nothing stands for %s", name)
	}
	return w.hosts[name]
}

// Start runs the units, the next pod when the last is ready. Units of others whose program is not installed are left out.
func (w *World) Start(units []*Unit) {
	w.t.Helper()
	for _, u := range units {
		path, ok := w.program(u)
		if !ok {
			continue
		}
		r := w.run(u, path)
		if u.Init {
			if status := w.wait(r, patience); status != 0 {
				w.t.Fatalf("init container %s ended with status %d", u.Name, status)
			}
			continue
		}
		w.running = append(w.running, r)
		w.waitReady(r)
	}
}

// program finds what to run.
func (w *World) program(u *Unit) (string, bool) {
	w.t.Helper()
	if u.Ours() {
		path := filepath.Join(w.bin, objects.Binary(u.Image))
		if _, err := os.Stat(path); err != nil {
			w.t.Fatalf("cannot run %s: %s; run `make build` first", u.Name, err)
		}
		return path, true
	}
	other, ok := others()[objects.Binary(u.Image)]
	path, err := exec.LookPath(other.program)
	if ok && err != nil && os.Getenv("VMCLUSTER_REQUIRE_PEERS") != "" {
		w.t.Fatalf("%s is not installed, and VMCLUSTER_REQUIRE_PEERS demands it: %s", other.program, err)
	}
	if !ok || err != nil {
		w.t.Logf("%s is not run: there is no %s here", u.Name, objects.Binary(u.Image))
		return "", false
	}
	return path, true
}

// run starts a unit.
func (w *World) run(u *Unit, path string) *running {
	w.t.Helper()
	if len(u.Command) > 0 {
		w.t.Fatalf("%s has a command of its own, %q; the entry points of images are all that is run here", u.Name, u.Command)
	}
	hosts, addrs := map[string]string{}, map[int]string{}
	for name, addr := range w.hosts {
		hosts[name] = addr
	}
	for port, addr := range w.addrs[u.Pod] {
		for _, host := range []string{"localhost", "127.0.0.1"} {
			hosts[host+":"+strconv.Itoa(port)] = addr
		}
	}
	for _, port := range u.Ports {
		addrs[port] = w.Addr(u.Pod, port)
	}
	args, env, err := u.listenAt(addrs)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "TMPDIR="+dir)
	for name, value := range u.Env {
		env = append(env, name+"="+u.inPlace(value, hosts))
	}
	for i, arg := range args {
		args[i] = u.inPlace(u.expand(arg), hosts)
	}
	w.rewriteFiles(u, hosts)
	r := &running{unit: u, cmd: exec.Command(path, args...), log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	log, err := os.Create(r.log)
	if err != nil {
		w.t.Fatal(err)
	}
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = dir, env, log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		w.t.Fatalf("cannot start %s: %s", u.Name, err)
	}
	go func() {
		_ = r.cmd.Wait() // the status is looked at by who waits
		close(r.exited)
	}()
	w.t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it may have ended
		<-r.exited
		log.Close()
		if text, err := os.ReadFile(r.log); w.t.Failed() && err == nil {
			w.t.Logf("%s %q:\n%s", u.Name, args, text[max(0, len(text)-3000):])
		}
	})
	return r
}

// rewriteFiles puts hosts and paths into configuration files as into arguments.
func (w *World) rewriteFiles(u *Unit, hosts map[string]string) {
	for _, root := range u.Mounts {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, ".yml") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(u.inPlace(string(text), hosts)), 0o600)
		})
		if err != nil {
			w.t.Fatalf("cannot prepare the files of %s: %s", u.Name, err)
		}
	}
}

// Client trusts any certificate, as probes do.
func Client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
}

// ask asks once whether a unit is ready.
func (w *World) ask(u *Unit) error {
	addr := w.Addr(u.Pod, u.Ready.Port)
	if u.Ready.Scheme == "" {
		conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	resp, err := Client().Get(u.Ready.Scheme + "://" + addr + u.Ready.Path)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 400 { // as Kubernetes has it
		return fmt.Errorf("%s answers %s", u.Ready.Path, resp.Status)
	}
	return nil
}

// waitReady waits for the unit's readiness probe.
func (w *World) waitReady(r *running) {
	w.t.Helper()
	if r.unit.Ready.Port == 0 {
		w.t.Fatalf("%s has no readiness probe", r.unit.Name)
	}
	Eventually(w.t, r.unit.Name+" is ready", func() error {
		select {
		case <-r.exited:
			w.t.Fatalf("%s has ended: %s", r.unit.Name, r.cmd.ProcessState)
		default:
		}
		return w.ask(r.unit)
	})
}

// Stop sends SIGTERM to all, senders first, and fails the test unless each ends by itself with status 0 within its grace
// period.
func (w *World) Stop() {
	w.t.Helper()
	for _, ours := range []bool{false, true} {
		begin := time.Now()
		for _, r := range w.running {
			if r.unit.Ours() != ours {
				continue
			}
			if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				w.t.Errorf("cannot stop %s: %s", r.unit.Name, err)
			}
		}
		for _, r := range w.running {
			if r.unit.Ours() != ours {
				continue
			}
			if status := w.wait(r, r.unit.Grace-time.Since(begin)); status != 0 {
				w.t.Errorf("%s ended with status %d", r.unit.Name, status)
			}
		}
	}
	w.running = nil
}

func (w *World) wait(r *running, timeout time.Duration) int {
	w.t.Helper()
	select {
	case <-r.exited:
	case <-time.After(timeout):
		w.t.Fatalf("%s has not ended within %s", r.unit.Name, timeout)
	}
	return r.cmd.ProcessState.ExitCode()
}

// Eventually calls f until it returns nil.
func Eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, patience, err)
		}
	}
}

// freeAddr returns an address nobody listens at, below the range from which the system takes the ports of connections.
func freeAddr(t testing.TB) string {
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(12000+rand.IntN(18000)))
		if ln, err := net.Listen("tcp", addr); err == nil && ln.Close() == nil {
			return addr
		}
	}
	t.Fatal("no free port found")
	return ""
}

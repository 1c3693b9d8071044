package apptest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// component is a binary with the flags it needs to start, and the messages it must log.
type component struct {
	binary   string
	args     func(t *testing.T) []string
	messages []string // regular expressions for whole messages
}

// components are the binaries of a cluster and the single node. Storage nodes need not be there for the others to start.
func components() []component {
	hostPort := `127\.0\.0\.1:([1-9]\d*)`
	return []component{
		{"vmstorage", func(t *testing.T) []string {
			return []string{"-storageDataPath=" + filepath.Join(t.TempDir(), "data"), "--httpListenAddr=127.0.0.1:0", "-vminsertAddr=127.0.0.1:0", "--vmselectAddr=127.0.0.1:0"}
		}, []string{
			`successfully opened storage ".+/data"( .*)?`, `started server at http://` + hostPort + `/`,
			`accepting vminsert conns at ` + hostPort, `accepting vmselect conns at ` + hostPort,
		}},
		{"vminsert", func(t *testing.T) []string {
			return []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + freeAddr(t), "-storageNode=" + freeAddr(t) + "," + freeAddr(t)}
		}, []string{`started server at http://` + hostPort + `/`}},
		{"vmselect", func(t *testing.T) []string {
			return []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + freeAddr(t)}
		}, []string{`started server at http://` + hostPort + `/`}},
		{"victoria-metrics", func(t *testing.T) []string {
			return []string{"-storageDataPath=" + filepath.Join(t.TempDir(), "data"), "-httpListenAddr=127.0.0.1:0"}
		}, []string{`successfully opened storage ".+/data"( .*)?`, `started server at http://` + hostPort + `/`}},
	}
}

// TestStartAndStop checks what scripts and orchestration read off a process from its start to its end.
func TestStartAndStop(t *testing.T) {
	t.Parallel()
	for _, c := range components() {
		for format, sig := range map[string]syscall.Signal{"default": syscall.SIGINT, "json": syscall.SIGTERM} {
			t.Run(c.binary+"/"+format, func(t *testing.T) {
				t.Parallel()
				p := start(t, spec{binary: c.binary, args: append(c.args(t), "-loggerFormat="+format)})
				for _, re := range c.messages {
					p.waitLog("^" + re + "$")
				}
				p.waitLog(`^pprof handlers are exposed at http://` + p.httpAddr() + `/debug/pprof/$`)
				checkPages(t, p)
				checkLog(t, p, format)
				// A client that keeps its connection open does not hold up the end.
				conn, err := net.Dial("tcp", p.httpAddr())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				p.stop(sig)
				if p.stdout.String() != "" {
					t.Errorf("it wrote to stdout: %q", p.stdout)
				}
				if left, err := os.ReadDir(p.dir); err != nil || len(left) > 0 {
					t.Errorf("it left %v in the folder it was started in, %v", left, err)
				}
				if _, err := net.DialTimeout("tcp", p.httpAddr(), time.Second); err == nil {
					t.Error("the port is still open")
				}
			})
		}
	}
}

// checkPages checks the pages every binary has.
func checkPages(t *testing.T, p *process) {
	t.Helper()
	root := "http://" + p.httpAddr()
	if a := get(t, root+"/health").want(t, http.StatusOK); a.body != "OK" {
		t.Errorf("/health says %q", a.body)
	}
	get(t, root+"/-/healthy").want(t, http.StatusOK, "VictoriaMetrics is Healthy.")
	get(t, root+"/-/ready").want(t, http.StatusOK, "VictoriaMetrics is Ready.")
	get(t, root+"/ping").want(t, http.StatusNoContent)
	get(t, root+"/flags").want(t, http.StatusOK, `-httpListenAddr="127.0.0.1:0"`)
	get(t, root+"/").want(t, http.StatusOK, p.spec.binary)
	get(t, root+"/debug/pprof/goroutine", "debug", "1").want(t, http.StatusOK, "goroutine profile")
	get(t, root+"/nosuch").want(t, http.StatusBadRequest, `"/nosuch"`)
	get(t, root+"/metrics").want(t, http.StatusOK, "vm_app_version{", "vm_app_start_timestamp", "process_resident_memory_bytes", "process_cpu_seconds_total", "go_goroutines",
		"process_open_fds", `flag{name="httpListenAddr", value="127.0.0.1:0", is_set="true"} 1`, "vm_available_memory_bytes", `vm_http_requests_total{path="/health"}`)
}

// checkLog checks the form of all records.
func checkLog(t *testing.T, p *process, format string) {
	t.Helper()
	firstURL := ""
	for line := range strings.Lines(p.stderr.String()) {
		var r record
		var fields map[string]string
		if format == "json" {
			if err := json.Unmarshal([]byte(line), &fields); err != nil || len(fields) != 4 {
				t.Errorf("log line %q has other fields than ts, level, caller and msg: %v", line, err)
			}
			r = record{fields["ts"], fields["level"], fields["caller"], fields["msg"]}
		} else if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4); len(parts) == 4 {
			r = record{parts[0], parts[1], parts[2], parts[3]}
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", r.TS); err != nil || r.Level == "" || r.Msg == "" || !regexp.MustCompile(`^[^ ]+\.go:\d+$`).MatchString(r.Caller) {
			t.Errorf("cannot read log line %q: %v", line, err)
		}
		if firstURL == "" && strings.Contains(r.Msg, "http://") {
			firstURL = r.Msg
		}
	}
	if !strings.HasPrefix(firstURL, "started server at ") {
		t.Errorf("the first HTTP address is in %q", firstURL)
	}
}

// TestVersionAndHelp: both print and end the process with status 0.
func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, c := range components() {
		for _, dashes := range []string{"-", "--"} {
			if r := runToEnd(t, spec{binary: c.binary, args: []string{dashes + "version"}}); r.status != 0 || !strings.HasPrefix(r.stdout, c.binary) || r.stderr != "" {
				t.Errorf("%s %sversion: %+v", c.binary, dashes, r)
			}
			r := runToEnd(t, spec{binary: c.binary, args: []string{dashes + "help"}})
			for _, name := range []string{"-httpListenAddr", "-loggerFormat", "-envflag.enable", "-memory.allowedPercent"} {
				if r.status != 0 || !strings.Contains(r.stdout, name) {
					t.Errorf("%s %shelp: status %d, no %s in %d bytes", c.binary, dashes, r.status, name, len(r.stdout))
				}
			}
		}
	}
}

// TestRefusedFlags: what cannot be done is said at once, with the flag's name and a way out.
func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		binary string
		args   []string
		texts  []string
	}{
		{"vmstorage", []string{"-storageDataPaht=x"}, []string{"storageDataPaht", "did you mean -storageDataPath?"}},
		{"vminsert", []string{"--storagenode=x:8400"}, []string{"storagenode", "did you mean -storageNode?"}},
		{"vmselect", []string{"-search.maxQueryDurations=3s", "-storageNode=x"}, []string{"did you mean -search.maxQueryDuration?"}},
		{"victoria-metrics", []string{"-retentionPeriods=1"}, []string{"did you mean -retentionPeriod?"}},
		{"vmstorage", []string{"-zzzzzzzzzzzzzzz"}, []string{"unknown flag -zzzzzzzzzzzzzzz", "-help"}},
		{"vmstorage", []string{"-retentionPeriod=soon"}, []string{"retentionPeriod", "soon"}},
		{"vmstorage", []string{"-retentionPeriod=1h"}, []string{"-retentionPeriod=1h", "1d"}},
		{"vmstorage", []string{"-storageDataPath="}, []string{"-storageDataPath"}},
		{"vmstorage", []string{"-loggerFormat=xml"}, []string{"-loggerFormat", "xml"}},
		{"vmstorage", []string{"-loggerLevel=LOUD"}, []string{"-loggerLevel", "LOUD"}},
		{"vmstorage", []string{"stray"}, []string{"stray"}},
		{"vminsert", nil, []string{"-storageNode"}},
		{"vmselect", nil, []string{"-storageNode"}},
		{"vminsert", []string{"-storageNode=a:1", "-storageNode=b:1,a:1"}, []string{"a:1", "twice"}},
		{"vminsert", []string{"-storageNode=a:1", "-replicationFactor=2"}, []string{"-replicationFactor=2", "1 storage nodes", "at least as many"}},
		{"vminsert", []string{"-storageNode=a:1", "-replicationFactor=-1"}, []string{"-replicationFactor=-1", "1 or more"}},
		{"vmstorage", []string{"-retentionTimezoneOffset=1h"}, []string{"-retentionTimezoneOffset", "not support"}},
		{"vmstorage", []string{"-downsampling.period=30d"}, []string{"-downsampling.period", "offset:interval"}},
		{"victoria-metrics", []string{"-retentionFilter=3d"}, []string{"-retentionFilter", "the filter is missing"}},
	} {
		r := runToEnd(t, spec{binary: tc.binary, args: tc.args})
		if r.status == 0 || r.stdout != "" {
			t.Errorf("%s %q: status %d, stdout %q", tc.binary, tc.args, r.status, r.stdout)
		}
		if !containsAll(r.stderr, tc.texts) || strings.Contains(r.stderr, "goroutine ") {
			t.Errorf("%s %q: says %q; want %q in it", tc.binary, tc.args, r.stderr, tc.texts)
		}
	}
}

// TestFlagsWithoutEffect: flags for parts we lack are accepted and named once in the log.
func TestFlagsWithoutEffect(t *testing.T) {
	t.Parallel()
	c := components()[0]
	p := start(t, spec{binary: c.binary, args: append(c.args(t), "-storage.cacheSizeStorageTSID=1GB", "-bigMergeConcurrency=2", "-filestream.disableFadvise")})
	p.waitLog(`without effect.*-bigMergeConcurrency.*-filestream\.disableFadvise.*-storage\.cacheSizeStorageTSID`)
	p.httpAddr()
	p.stop(syscall.SIGINT)
	// Flags we refuse are accepted when they ask for nothing.
	q := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + freeAddr(t), "-cluster.tls=false"}})
	q.httpAddr()
	q.stop(syscall.SIGINT)
}

// TestEnvironment: flags come from variables when asked for; the command line wins.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	args := []string{"-envflag.enable", "-envflag.prefix=VM_", "-httpListenAddr=127.0.0.1:0"}
	env := []string{
		"VM_storageNode=127.0.0.1:1,127.0.0.1:2", "VM_loggerFormat=json", "VM_http_connTimeout=3m", "VM_httpListenAddr=127.0.0.1:1",
		"storageNode=127.0.0.1:3", "VM_insert_maxQueueDuration=%{WAIT}", "WAIT=11s", "VM_maxLabelsPerTimeseries=17", "VM_unknown_flag=1",
	}
	p := start(t, spec{binary: "vminsert", args: args, env: env})
	root := "http://" + p.httpAddr()
	get(t, root+"/flags").want(t, http.StatusOK, `-storageNode="127.0.0.1:1,127.0.0.1:2"`, `-loggerFormat="json"`, `-http.connTimeout="3m0s"`,
		`-httpListenAddr="127.0.0.1:0"`, `-insert.maxQueueDuration="11s"`, `-maxLabelsPerTimeseries="17"`)
	if !strings.HasPrefix(p.stderr.String(), `{"ts":`) {
		t.Errorf("the log is not JSON: %.100s", p.stderr)
	}
	p.stop(syscall.SIGINT)

	off := runToEnd(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0"}, env: []string{"storageNode=127.0.0.1:3"}})
	if off.status == 0 || !strings.Contains(off.stderr, "-storageNode") {
		t.Errorf("variables count without -envflag.enable: %+v", off)
	}
	bad := runToEnd(t, spec{binary: "vminsert", args: []string{"-envflag.enable"}, env: []string{"storageNode=127.0.0.1:3", "maxLabelsPerTimeseries=many"}})
	if bad.status == 0 || !containsAll(bad.stderr, []string{"maxLabelsPerTimeseries", "many"}) {
		t.Errorf("a bad variable: %+v", bad)
	}
}

// TestSecrets: secrets come from files and are shown nowhere.
func TestSecrets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("pa55word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, spec{binary: "vmselect", args: []string{
		"-httpListenAddr=127.0.0.1:0", "-storageNode=" + freeAddr(t), "-httpAuth.username=me", "-httpAuth.password=file://" + file, "-metricsAuthKey=k3y",
	}})
	root := "http://" + p.httpAddr()
	a := get(t, root+"/flags").want(t, http.StatusUnauthorized)
	if a.header.Get("WWW-Authenticate") == "" {
		t.Error("no WWW-Authenticate")
	}
	for _, path := range []string{"/health", "/-/healthy", "/-/ready", "/ping"} { // probes need no password
		if a := get(t, root+path); a.status/100 != 2 {
			t.Errorf("%s: %s", path, a)
		}
	}
	request(t, http.MethodGet, root+"/metrics", nil, "Authorization", "Basic bWU6cGE1NXdvcmQ=").want(t, http.StatusUnauthorized, "authKey")
	ok := request(t, http.MethodGet, root+"/metrics?authKey=k3y", nil, "Authorization", "Basic bWU6cGE1NXdvcmQ=").want(t, http.StatusOK)
	flags := request(t, http.MethodGet, root+"/flags", nil, "Authorization", "Basic bWU6cGE1NXdvcmQ=").want(t, http.StatusOK)
	for where, text := range map[string]string{"/metrics": ok.body, "/flags": flags.body, "the log": p.stderr.String()} {
		if strings.Contains(text, "pa55word") || strings.Contains(text, "k3y") {
			t.Errorf("%s shows a secret", where)
		}
	}
}

// TestTakenPorts: the message names flag and address, and says what to do.
func TestTakenPorts(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	storage := func(flag string) []string {
		args := []string{"-storageDataPath=" + t.TempDir()}
		for _, f := range []string{"httpListenAddr", "vminsertAddr", "vmselectAddr"} {
			addr := "127.0.0.1:0"
			if f == flag {
				addr = taken
			}
			args = append(args, "-"+f+"="+addr)
		}
		return args
	}
	for _, tc := range []struct {
		binary, flag string
		args         []string
	}{
		{"vmstorage", "httpListenAddr", storage("httpListenAddr")},
		{"vmstorage", "vminsertAddr", storage("vminsertAddr")},
		{"vmstorage", "vmselectAddr", storage("vmselectAddr")},
		{"vminsert", "httpListenAddr", []string{"-storageNode=127.0.0.1:1", "-httpListenAddr=" + taken}},
		{"vmselect", "httpListenAddr", []string{"-storageNode=127.0.0.1:1", "-httpListenAddr=" + taken}},
		{"victoria-metrics", "httpListenAddr", []string{"-storageDataPath=" + t.TempDir(), "-httpListenAddr=" + taken}},
	} {
		r := runToEnd(t, spec{binary: tc.binary, args: tc.args})
		if r.status == 0 || !containsAll(r.stderr, []string{"-" + tc.flag, taken, "taken by another process"}) {
			t.Errorf("%s -%s: status %d, says %s", tc.binary, tc.flag, r.status, r.stderr)
		}
	}
}

// TestDataFolderInUse: a second process on the same data refuses to start, and the first is not disturbed.
func TestDataFolderInUse(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	args := []string{"-storageDataPath=" + s.data}
	for _, b := range []string{"victoria-metrics", "vmstorage"} {
		own := append([]string{"-httpListenAddr=127.0.0.1:0"}, args...)
		if b == "vmstorage" {
			own = append(own, "-vminsertAddr=127.0.0.1:0", "-vmselectAddr=127.0.0.1:0")
		}
		r := runToEnd(t, spec{binary: b, args: own})
		if r.status == 0 || !containsAll(r.stderr, []string{s.data, "another process"}) {
			t.Errorf("%s: status %d, says %s", b, r.status, r.stderr)
		}
	}
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "fine").at(fixed, 1))
	s.stop(syscall.SIGINT)
	s.restart() // the lock ends with the process
	if got := export(t, s.url(""), "fine").samples(); got != 1 {
		t.Errorf("%d samples after a restart", got)
	}
}

// TestUnwritableDataFolder: the message names the path.
func TestUnwritableDataFolder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := runToEnd(t, spec{binary: "vmstorage", args: []string{"-storageDataPath=" + filepath.Join(file, "data"), "-httpListenAddr=127.0.0.1:0"}})
	if r.status == 0 || !strings.Contains(r.stderr, file) {
		t.Errorf("status %d, says %s", r.status, r.stderr)
	}
}

// TestShutdownDelay: /health fails first, so that balancers notice, while requests are still served.
func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "-http.shutdownDelay=3s")
	s.signal(syscall.SIGTERM)
	eventually(t, patience, "/health to fail", func() error {
		a, err := do(http.MethodGet, s.url("/health"), nil)
		if err != nil {
			t.Fatalf("the server went away before /health failed: %s", err)
		}
		if a.status != http.StatusServiceUnavailable {
			return fmt.Errorf("%s", a)
		}
		return nil
	})
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "late").at(fixed, 1))
	if status := s.wait(startTimeout); status != 0 {
		t.Errorf("it ended with status %d", status)
	}
	s.restart()
	if got := export(t, s.url(""), "late").samples(); got != 1 {
		t.Errorf("%d samples after a restart", got)
	}
}

// TestClusterConnections: connections between nodes are logged on both sides.
func TestClusterConnections(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{}) // waits for the messages about dialling
	for _, n := range c.storage {
		for _, peer := range []string{"vminsert", "vmselect"} {
			n.waitLog(`^accepted ` + peer + ` conn from 127\.0\.0\.1:\d+$`)
			n.waitLog(`^processing ` + peer + ` conn from 127\.0\.0\.1:\d+$`)
		}
	}
	mustWrite(t, c.writeURL("0")+"/api/v1/write", series("__name__", "m").at(fixed, 1))
	eventually(t, patience, "message about a new partition", func() error {
		for _, n := range c.storage {
			if n.stderr.find(regexp.MustCompile(`^creating a partition "2024_06" with .*`+regexp.QuoteMeta(n.data))) != nil {
				return nil
			}
		}
		return fmt.Errorf("it is not there")
	})
	c.insert.stop(syscall.SIGINT)
	c.sel.stop(syscall.SIGTERM)
	for _, n := range c.storage {
		for _, peer := range []string{"vminsert", "vmselect"} {
			n.waitLog(`^closing ` + peer + ` conn from 127\.0\.0\.1:\d+$`)
		}
		n.stop(syscall.SIGINT)
	}
}

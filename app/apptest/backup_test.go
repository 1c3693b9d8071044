package apptest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// vmbackup runs a backup of a node to its end and returns what it says of it.
func vmbackup(t *testing.T, data string, args ...string) string {
	t.Helper()
	got := runToEnd(t, spec{binary: "vmbackup", args: append([]string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + data}, args...)})
	if got.status != 0 {
		t.Fatalf("vmbackup ends with status %d", got.status)
	}
	return got.stderr
}

func vmrestore(t *testing.T, data string, args ...string) string {
	t.Helper()
	got := runToEnd(t, spec{binary: "vmrestore", args: append([]string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + data}, args...)})
	if got.status != 0 {
		t.Fatalf("vmrestore ends with status %d", got.status)
	}
	return got.stderr
}

// uploaded returns how many bytes a backup says it has sent.
func uploaded(t *testing.T, log string) (n int) {
	t.Helper()
	m := regexp.MustCompile(`backed up \d+ bytes in .*; uploaded (\d+) bytes`).FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("the backup does not say what it has done: %s", log)
	}
	if _, err := fmt.Sscan(m[1], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestBackupOfACluster backs up both nodes of a cluster under load, and restores them onto fresh disks: everything that was acknowledged before
// is there.
func TestBackupOfACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	l := startLoad(t, c.writeURL("0")+"/api/v1/write")
	l.waitAcked(t, 300)
	writeMany(t, c.writeURL("7"), "kept", 100)
	dst := t.TempDir()
	for i, n := range c.storage {
		to := fmt.Sprintf("-dst=fs://%s/%d", dst, i)
		first := vmbackup(t, n.data, "-snapshot.createURL=http://"+n.http+"/snapshot/create", to)
		if sent := uploaded(t, first); sent == 0 {
			t.Error("nothing was sent")
		}
		wantBody(t, get(t, "http://"+n.http+"/snapshot/list"), `{"status":"ok","snapshots":[]}`)
		// A second backup sends the difference only.
		name := newSnapshot(t, n.http)
		vmbackup(t, n.data, "-snapshotName="+name, to)
		if again := uploaded(t, vmbackup(t, n.data, "-snapshotName="+name, to)); again != 0 {
			t.Errorf("%d bytes are sent although nothing has changed", again)
		}
	}
	l.stop()
	writeMany(t, c.writeURL("7"), "later", 100)
	for i, n := range c.storage {
		n.stop(syscall.SIGINT)
		if i == 0 { // a fresh disk for one, the remains for the other
			if err := os.RemoveAll(n.data); err != nil {
				t.Fatal(err)
			}
		}
		vmrestore(t, n.data, fmt.Sprintf("-src=fs://%s/%d", dst, i))
		n.restart()
	}
	c.waitWhole()
	if got := export(t, c.readURL("7"), `{__name__!=""}`); got.samples() != 800 || len(got) != 100 {
		t.Errorf("%d samples of %d series are back; want those from before the backup, 800 of 100", got.samples(), len(got))
	}
	if got := export(t, c.readURL("0"), "load"); got.samples() == 0 {
		t.Error("nothing of the load is back")
	}
}

// TestKilledBackups kills backups and restores again and again. What was whole stays whole, and what is whole in the end is right.
func TestKilledBackups(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	writeMany(t, s.url(""), "first", 300)
	want := export(t, s.url(""), `{__name__!=""}`)
	dst := "-dst=fs://" + filepath.Join(t.TempDir(), "backup")
	src := strings.Replace(dst, "-dst", "-src", 1)
	name := newSnapshot(t, s.addr)
	killed := func(binary, done string, args ...string) {
		t.Helper()
		p := start(t, spec{binary: binary, args: append([]string{"-httpListenAddr=127.0.0.1:0", "-maxBytesPerSecond=20000", "-concurrency=1"}, args...)})
		p.waitLog(done)
		p.kill()
	}
	killed("vmbackup", `^\d+ files with \d+ bytes are missing`, "-storageDataPath="+s.data, "-snapshotName="+name, dst)
	refused := runToEnd(t, spec{binary: "vmrestore", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + t.TempDir(), src}})
	if refused.status != 1 || !strings.Contains(refused.stderr, "cannot find a whole backup") {
		t.Errorf("half a backup is restored, status %d: %s", refused.status, refused.stderr)
	}
	vmbackup(t, s.data, "-snapshotName="+name, dst)

	// A later backup is killed: the earlier one is still there.
	writeMany(t, s.url(""), "second", 300)
	killed("vmbackup", `^\d+ files with \d+ bytes are missing`, "-storageDataPath="+s.data, "-snapshotName="+newSnapshot(t, s.addr), dst)
	fresh := filepath.Join(t.TempDir(), "fresh")
	killed("vmrestore", `^0 of \d+ files are there`, "-storageDataPath="+fresh, src)
	open := func() ran {
		return runToEnd(t, spec{binary: "victoria-metrics", args: []string{"-storageDataPath=" + fresh, "-httpListenAddr=127.0.0.1:0"}})
	}
	if got := open(); got.status != 1 || !strings.Contains(got.stderr, "run vmrestore") {
		t.Errorf("half a restored directory is opened, status %d: %s", got.status, got.stderr)
	}
	vmrestore(t, fresh, src)
	checkSnapshot(t, fresh, want)

	// A node which runs is refused.
	running := runToEnd(t, spec{binary: "vmrestore", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + s.data, src}})
	if running.status != 1 || !strings.Contains(running.stderr, "stop that first") {
		t.Errorf("a running node is restored, status %d: %s", running.status, running.stderr)
	}
	if got := export(t, s.url(""), `first`); !reflect.DeepEqual(got, want) {
		t.Error("the running node has other data than before")
	}
	get(t, s.url("/health")).want(t, http.StatusOK)
}

// TestBackupRefusals: flags which cannot be meant are refused before anything is done.
func TestBackupRefusals(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for want, args := range map[string][]string{
		"want a URL":                         {"-dst=/backups", "-snapshotName=x"},
		"no store is known for ftp://":       {"-dst=ftp://host/backups", "-snapshotName=x"},
		"want an absolute path":              {"-dst=fs://backups", "-snapshotName=x"},
		"set either -snapshotName":           {"-dst=fs:///backups"},
		"it is within -storageDataPath":      {"-dst=fs://" + data + "/backups", "-snapshotName=x"},
		"/snapshot/list has those there are": {"-dst=fs://" + t.TempDir(), "-snapshotName=../../x"},
		"it is -dst":                         {"-dst=fs:///a", "-origin=fs:///a/", "-snapshotName=x"},
		"see -snapshot.createURL":            {"-dst=fs://" + t.TempDir(), "-snapshot.createURL=http://" + freeAddr(t) + "/snapshot/create?authKey=secret"},
	} {
		got := runToEnd(t, spec{binary: "vmbackup", args: append([]string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + data}, args...)})
		if got.status != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("%q: status %d, %s", args, got.status, got.stderr)
		}
		if strings.Contains(got.stderr, "authKey=secret\" ") || strings.Contains(got.stderr, "Post \"http://127.0.0.1/snapshot/create?authKey") {
			t.Errorf("the key is in the log: %s", got.stderr)
		}
	}
}

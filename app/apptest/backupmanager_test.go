package apptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/backup/storetest"
)

// backups is a vmbackupmanager of a node, and the flags that its commands take.
type backups struct {
	*process
	addr string
	all  []string // flags of the process and of commands
}

// startBackups starts one with destination and store as in o.
func startBackups(t *testing.T, data, node string, o *objectStore, args ...string) *backups {
	t.Helper()
	b := &backups{addr: freeAddr(t)}
	b.all = append([]string{"-storageDataPath=" + data, "-dst=" + o.url, "-apiURL=http://" + b.addr}, o.args...)
	args = append(append([]string{"-httpListenAddr=" + b.addr, "-snapshot.createURL=http://" + node + "/snapshot/create"}, b.all...), args...)
	b.process = start(t, spec{binary: "vmbackupmanager", args: args, env: o.env})
	b.httpAddr()
	return b
}

// command runs a command beside the process and returns what it writes.
func (b *backups) command(words string) ran {
	b.t.Helper()
	return runToEnd(b.t, spec{binary: "vmbackupmanager", args: append(strings.Fields(words), b.all...), env: b.spec.env})
}

func (b *backups) want(words, stdout string) {
	b.t.Helper()
	if got := b.command(words); got.status != 0 || !regexp.MustCompile(`^`+stdout+`\n?$`).MatchString(got.stdout) {
		b.t.Errorf("%s: status %d, %q %q; want %q", words, got.status, got.stdout, got.stderr, stdout)
	}
}

// waitWhole waits until there is a whole backup of a kind that was taken after another one.
func (b *backups) waitWhole(kind, after string) (name, createdAt string) {
	b.t.Helper()
	eventually(b.t, time.Minute, "backup "+kind, func() error {
		var rows []struct {
			Name, State string
			CreatedAt   string `json:"created_at"`
		}
		a := get(b.t, "http://"+b.addr+"/api/v1/backups").want(b.t, http.StatusOK)
		if err := json.Unmarshal([]byte(a.body), &rows); err != nil {
			return err
		}
		for _, r := range rows {
			if strings.HasPrefix(r.Name, kind) && r.State == "complete" && r.CreatedAt > after {
				name, createdAt = r.Name, r.CreatedAt
				return nil
			}
		}
		return errors.New(a.body)
	})
	return name, createdAt
}

// TestBackupManager backs up both nodes of a cluster on a schedule and brings the cluster back to what it was, by marks that the next start finds.
func TestBackupManager(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	writeMany(t, c.writeURL("7"), "kept", 100)
	dst := t.TempDir()
	var managers []*backups
	var months []string
	for i, n := range c.storage {
		b := startBackups(t, n.data, n.http, &objectStore{url: fmt.Sprintf("fs://%s/%d", dst, i)}, "-backupInterval=1s", "-keepLastHourly=2", "-disableWeekly", "-verifyInterval=1h", "-verifyTempDir="+t.TempDir())
		managers = append(managers, b)
		month, _ := b.waitWhole("monthly/", "")
		months = append(months, month)
		if got := b.command("restore get"); got.status != 1 || got.stderr != "no restore is asked for\n" {
			t.Errorf("status %d, %s", got.status, got.stderr)
		}
		b.waitLog(`^verified backup`)
	}
	writeMany(t, c.writeURL("7"), "later", 100)
	for i, b := range managers {
		month := months[i]
		_, before := b.waitWhole("latest", "")
		b.waitWhole("latest", before) // and again, without being asked
		b.want("backup lock "+month, `\{"name":"`+month+`".*"locked":true,"state":"complete"\}`)
		b.want("-apiURL=http://127.0.0.1:1 backup verify "+month, `\{"name":"`+month+`","state":"ok".*\}`) // the last flag counts
		b.want("restore create "+month, `\{"backup":"`+month+`"\}`)
		b.want("restore get", `\{"backup":"`+month+`"\}`)
		if got := b.command("restore"); got.status != 1 || !strings.Contains(got.stderr, "stop that first") {
			t.Errorf("a running node is restored: %d, %s", got.status, got.stderr)
		}
		b.stop(syscall.SIGINT)
		n := c.storage[i]
		n.stop(syscall.SIGINT)
		b.want("restore", "")
		n.restart()
		b.want("restore", "") // nothing is asked for any more, so a running node does not matter
	}
	c.waitWhole()
	if got := export(t, c.readURL("7"), `{__name__!=""}`); got.samples() != 800 || len(got) != 100 {
		t.Errorf("%d samples of %d series are back; want those from before the backup, 800 of 100", got.samples(), len(got))
	}
}

// TestKilledManager kills a vmbackupmanager again and again. What passes for whole is, and the next one goes on.
func TestKilledManager(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	dst := filepath.Join(t.TempDir(), "backups")
	writeMany(t, s.url(""), "m", 300)
	b := startBackups(t, s.data, s.addr, &objectStore{url: "fs://" + dst}, "-backupInterval=1s", "-maxBytesPerSecond=100KB", "-keepLastHourly=1", "-keepLastDaily=1", "-disableMonthly")
	checked := 0
	for i := range 6 {
		writeMany(t, s.url(""), fmt.Sprintf("m%d", i), 100)
		b.waitLog([]string{`^\d+ files with [1-9]\d* bytes are missing at .*/latest`, `^backup latest is complete`}[i%2])
		b.kill()
		src := "-src=fs://" + dst + "/latest"
		got := runToEnd(t, spec{binary: "vmrestore", args: []string{"-httpListenAddr=127.0.0.1:0", "-verify", "-verifyTempDir=" + t.TempDir(), src}})
		if got.status != 0 && !strings.Contains(got.stderr, "cannot find a whole backup") {
			t.Fatalf("a whole backup cannot be relied on: %s", got.stderr)
		}
		if got.status == 0 {
			checked++
		}
		b.run()
		b.httpAddr()
	}
	if checked == 0 {
		t.Error("no backup was whole at any kill")
	}
	want := export(t, s.url(""), `{__name__!=""}`)
	b.stop(syscall.SIGINT)
	b.spec.args = append(b.spec.args, "-maxBytesPerSecond=0", "-runOnStart")
	b.run()
	b.httpAddr()
	b.waitLog(`^backup latest is complete`)
	b.stop(syscall.SIGINT)
	fresh := filepath.Join(t.TempDir(), "fresh")
	vmrestore(t, fresh, "-src=fs://"+dst+"/latest")
	checkSnapshot(t, fresh, want)
}

// TestBackupManagerToS3: copies, retention, locks, verification and restore in a bucket that fails now and then.
func TestBackupManagerToS3(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	writeMany(t, s.url(""), "m", 300)
	want := export(t, s.url(""), `{__name__!=""}`)
	s3 := storetest.NewS3(t, "backups")
	b := startBackups(t, s.data, s.addr, &objectStore{
		url: "s3://backups/node1", args: []string{"-customS3Endpoint=" + s3.URL, "-backupTypeTagName=kind"}, env: []string{"AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=verysecret"},
	}, "-backupInterval=1s", "-keepLastHourly=1", "-disableWeekly", "-disableMonthly")
	hour, first := b.waitWhole("hourly/", "")
	day, _ := b.waitWhole("daily/", "")
	b.waitWhole("latest", first)
	b.want("backup lock "+hour, `\{"name":"`+hour+`".*"locked":true,"state":"complete"\}`)
	b.want("backup verify "+hour, `\{"name":"`+hour+`","state":"ok".*\}`)
	b.want("restore create s3://backups/node1/"+day, `\{"backup":"s3://backups/node1/`+day+`"\}`)
	b.stop(syscall.SIGINT)
	s.stop(syscall.SIGINT)
	b.want("restore", "")
	s.restart()
	if got := export(t, s.url(""), `{__name__!=""}`); !reflect.DeepEqual(got, want) {
		t.Errorf("%d samples are back; want %d", got.samples(), want.samples())
	}
}

func TestBackupManagerRefusals(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for want, words := range map[string]string{
		"set -snapshot.createURL":                         "-dst=fs:///backups",
		"it is within -storageDataPath":                   "-dst=fs://" + data + "/b -snapshot.createURL=http://x/snapshot/create",
		"want whole seconds":                              "-dst=fs:///backups -snapshot.createURL=http://x/snapshot/create -backupInterval=1500ms",
		"there is no command \"backup lock\"; there are:": "backup lock",
		"cannot reach vmbackupmanager at -apiURL":         "backup list -apiURL=http://" + freeAddr(t),
		"only objects in s3:// have tags":                 "-dst=fs:///backups -snapshot.createURL=http://x/snapshot/create -backupTypeTagName=x",
	} {
		got := runToEnd(t, spec{binary: "vmbackupmanager", args: append([]string{"-httpListenAddr=127.0.0.1:0", "-storageDataPath=" + data}, strings.Fields(words)...)})
		if got.status == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: status %d, %s", words, got.status, got.stderr)
		}
	}
}

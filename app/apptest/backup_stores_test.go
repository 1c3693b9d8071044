package apptest

import (
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/backup/storetest"
)

// objectStore is a service in the process of the test, with what vmbackup needs to reach it.
type objectStore struct {
	faults *storetest.Faults
	url    string // of the place for backups
	writes string // the method of requests which write small objects
	args   []string
	env    []string
}

// run runs vmbackup or vmrestore to its end.
func (o *objectStore) run(t *testing.T, binary string, status int, args ...string) string {
	t.Helper()
	args = append(append([]string{"-httpListenAddr=127.0.0.1:0"}, o.args...), args...)
	got := runToEnd(t, spec{binary: binary, args: args, env: o.env})
	if got.status != status {
		t.Fatalf("%s ends with status %d, want %d: %s", binary, got.status, status, got.stderr)
	}
	for _, secret := range []string{"verysecret", storetest.AzureKey} {
		if strings.Contains(got.stderr, secret) {
			t.Errorf("%s shows %q", binary, secret)
		}
	}
	return got.stderr
}

// TestBackupToObjectStores backs up a running node to each kind of store while things go wrong, kills that, and restores.
func TestBackupToObjectStores(t *testing.T) {
	t.Parallel()
	s3 := storetest.NewS3(t, "backups")
	gcs := storetest.NewGCS(t, 10, "backups")
	azure := storetest.NewAzure(t, 10, "backups")
	for name, o := range map[string]*objectStore{
		"s3": {
			faults: s3.Faults, url: "s3://backups/node1", writes: "PUT",
			args: []string{"-customS3Endpoint=" + s3.URL, `-s3ObjectTags={"team":"infra"}`, `-objectMetadata={"node":"1"}`},
			env:  []string{"AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=verysecret"},
		},
		"gs":     {faults: gcs.Faults, url: "gs://backups/node1", writes: "POST", env: []string{"STORAGE_EMULATOR_HOST=" + strings.TrimPrefix(gcs.URL, "http://")}},
		"azblob": {faults: azure.Faults, url: "azblob://backups/node1", writes: "PUT", env: []string{"AZURE_STORAGE_ACCOUNT_CONNECTION_STRING=" + azure.Connection}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testObjectStore(t, o)
		})
	}
}

func testObjectStore(t *testing.T, o *objectStore) {
	s := startSingle(t)
	writeMany(t, s.url(""), "first", 300)
	want := export(t, s.url(""), `{__name__!=""}`)
	dst, src, data := "-dst="+o.url, "-src="+o.url, "-storageDataPath="+s.data
	name := "-snapshotName=" + newSnapshot(t, s.addr)

	p := start(t, spec{binary: "vmbackup", env: o.env, args: append([]string{"-httpListenAddr=127.0.0.1:0", "-maxBytesPerSecond=20000", "-concurrency=1", data, name, dst}, o.args...)})
	p.waitLog(`^\d+ files with \d+ bytes are missing`)
	p.kill()
	if log := o.run(t, "vmrestore", 1, src, "-storageDataPath="+t.TempDir()); !strings.Contains(log, "cannot find a whole backup") {
		t.Errorf("half a backup is restored: %s", log)
	}
	o.faults.Set(storetest.Fault{Method: "GET", Do: storetest.Unavailable, Times: 1}, storetest.Fault{Method: o.writes, Do: storetest.Unavailable, Times: 1},
		storetest.Fault{Method: o.writes, Do: storetest.BreakRequest, Times: 1}, storetest.Fault{Method: o.writes, Do: storetest.LoseAnswer, Times: 1})
	first := uploaded(t, o.run(t, "vmbackup", 0, data, name, dst))
	if left := o.faults.Left(); left > 0 {
		t.Errorf("%d faults have not come", left)
	}
	if again := uploaded(t, o.run(t, "vmbackup", 0, data, name, dst)); again != 0 {
		t.Errorf("%d bytes are sent although nothing has changed", again)
	}
	// What little is written later costs little.
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "later").at(fixed, 1))
	later := "-snapshotName=" + newSnapshot(t, s.addr)
	if sent := uploaded(t, o.run(t, "vmbackup", 0, data, later, "-origin="+o.url, "-dst="+o.url+"/daily")); sent == 0 || sent >= first {
		t.Errorf("%d bytes are sent for one sample; %d before", sent, first)
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	o.faults.Set(storetest.Fault{Method: "GET", Do: storetest.Unavailable, Times: 1}, storetest.Fault{Method: "GET", Do: storetest.BreakAnswer, Times: 2})
	o.run(t, "vmrestore", 0, src, "-storageDataPath="+fresh)
	checkSnapshot(t, fresh, want)
	daily := filepath.Join(t.TempDir(), "daily")
	o.run(t, "vmrestore", 0, "-src="+o.url+"/daily", "-storageDataPath="+daily)
	checkSnapshot(t, daily, export(t, s.url(""), `{__name__!=""}`))
	// What does not pass ends the run soon, and says what it is.
	o.faults.Set(storetest.Fault{Do: storetest.Forbidden, Times: -1})
	if log := o.run(t, "vmbackup", 1, data, name, dst); !strings.Contains(log, "docs/backups.md") && !strings.Contains(log, "credentials") {
		t.Errorf("the log does not say what to do: %s", log)
	}
}

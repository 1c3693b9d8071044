package gcsstore

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/backup/storetest"
	"vmcluster/lib/errkind"
)

// quick is for services in the process. Silence is long enough for a machine under load.
func quick() objects.Options {
	return objects.Options{PartBytes: granule, MaxPause: time.Millisecond, Attempts: 5, Silence: time.Second}
}

func open(t *testing.T, location, endpoint string, o objects.Options) *Store {
	t.Helper()
	s, err := New(t.Context(), location, Options{Options: o, Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

func TestStore(t *testing.T) {
	service := storetest.NewGCS(t, 100, "backups")
	storetest.Run(t, &storetest.Fixture{
		Open:      func(t *testing.T, dir string) backup.Store { return open(t, "backups/"+dir, service.URL, quick()) },
		PartBytes: granule, Many: 350, Faults: service.Faults,
	})
}

// TestEmulator runs the same against a program of somebody else; see make backup-emulators.
func TestEmulator(t *testing.T) {
	endpoint, bucket := os.Getenv("VMCLUSTER_GCS_ENDPOINT"), os.Getenv("VMCLUSTER_GCS_BUCKET")
	if endpoint == "" {
		t.Skip("VMCLUSTER_GCS_ENDPOINT is not set")
	}
	storetest.Run(t, &storetest.Fixture{
		Open: func(t *testing.T, dir string) backup.Store {
			return open(t, bucket+"/"+dir, endpoint, objects.Options{PartBytes: granule})
		},
		PartBytes: granule, Many: 1100,
	})
}

// TestForgottenUpload: the service may forget an upload under way, which is then begun again.
func TestForgottenUpload(t *testing.T) {
	service := storetest.NewGCS(t, 100, "backups")
	s, data := open(t, "backups", service.URL, quick()), bytes.Repeat([]byte("data"), granule)
	for _, times := range []int{1, 2} {
		service.Set(storetest.Fault{Arg: "upload_id", Do: storetest.Gone, Times: times})
		storetest.Put(t, s, "large", data)
		if got, err := storetest.Get(t.Context(), s, "large"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	service.Set(storetest.Fault{Arg: "upload_id", Do: storetest.Gone, Times: -1})
	if err := s.Put(t.Context(), "large", bytes.NewReader(data), int64(len(data))); err == nil {
		t.Error("an upload which is forgotten again and again succeeds")
	}
}

func TestMetadata(t *testing.T) {
	service := storetest.NewGCS(t, 100, "backups", "more")
	o := quick()
	o.Metadata = map[string]string{"team": "infra"}
	s, to := open(t, "backups/x", service.URL, o), open(t, "more/y", service.URL, o)
	storetest.Put(t, s, "small", []byte("1"))
	storetest.Put(t, s, "large", make([]byte, 2*granule))
	if ok, err := to.CopyFrom(t.Context(), s, "large", 2*granule); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
	for _, name := range [][2]string{{"backups", "x/small"}, {"backups", "x/large"}, {"more", "y/large"}} {
		if got := service.Metadata(name[0], name[1])["team"]; got != "infra" {
			t.Errorf("%v has the metadata %q", name, got)
		}
	}
}

// TestErrors: what is wrong is said with what to do about it.
func TestErrors(t *testing.T) {
	service := storetest.NewGCS(t, 100, "backups")
	s := open(t, "missing/x", service.URL, quick())
	if err := s.List(t.Context(), nil); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), `there is no bucket "missing"; create it`) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "key.json")
	for text, want := range map[string]string{"": "it is not JSON", "{}": "cannot use -credsFilePath", `{"type":"service_account","private_key":"secret"}`: ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(t.Context(), "backups", Options{CredsFile: file})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, location := range []string{"", "/x", "b/../x", "b/x//y"} {
		if _, err := New(t.Context(), location, Options{Endpoint: service.URL}); err == nil {
			t.Errorf("%q is taken for a location", location)
		}
	}
}

// FuzzReceived: what the service says it has is a number of bytes, or an error.
func FuzzReceived(f *testing.F) {
	for _, s := range []string{"", "bytes=0-99", "bytes=0--5", "bytes=5-9", "0-7", "bytes=0-99999999999999999999", "bytes=0-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := received(http.Header{"Range": {text}})
		if n < 0 || err == nil && text != "" && n == 0 {
			t.Errorf("%q is %d, %v", text, n, err)
		}
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

package azurestore

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/backup/storetest"
	"vmcluster/lib/errkind"
)

const partBytes = 100_000

// quick is for services in the process. Silence is long enough for a machine under load.
func quick(connection string) Options {
	return Options{
		Options: objects.Options{PartBytes: partBytes, MaxPause: time.Millisecond, Attempts: 5, Silence: time.Second},
		Getenv:  environment{envConnection: connection}.get,
	}
}

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func open(t *testing.T, location string, o Options) *Store {
	t.Helper()
	s, err := New(location, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	service := storetest.NewAzure(t, 100, "backups")
	storetest.Run(t, &storetest.Fixture{
		Open:      func(t *testing.T, dir string) backup.Store { return open(t, "backups/"+dir, quick(service.Connection)) },
		PartBytes: partBytes, Many: 350, Faults: service.Faults,
	})
	if service.Unchecked > 0 {
		t.Errorf("%d bodies came without a checksum", service.Unchecked)
	}
}

// TestEmulator runs the same against a program of somebody else; see make backup-emulators.
func TestEmulator(t *testing.T) {
	container := os.Getenv("VMCLUSTER_AZURE_CONTAINER")
	if container == "" {
		t.Skip("VMCLUSTER_AZURE_CONTAINER is not set")
	}
	storetest.Run(t, &storetest.Fixture{
		Open: func(t *testing.T, dir string) backup.Store {
			return open(t, container+"/"+dir, Options{Options: objects.Options{PartBytes: partBytes}, Getenv: os.Getenv})
		},
		PartBytes: partBytes, Many: 5100,
	})
}

// TestIncompleteCopies: a blob which is still being copied is none.
func TestIncompleteCopies(t *testing.T) {
	service := storetest.NewAzure(t, 100, "backups")
	s, to := open(t, "backups/x", quick(service.Connection)), open(t, "backups/y", quick(service.Connection))
	storetest.Put(t, s, "data/1", []byte("one"))
	if ok, err := to.CopyFrom(t.Context(), s, "data/1", 3); !ok || err != nil {
		t.Fatalf("got %t, %v", ok, err)
	}
	service.Stall("backups", "y/data/1")
	if err := to.List(t.Context(), func(key string, _ int64) { t.Errorf("%q is listed", key) }); err != nil {
		t.Error(err)
	}
	if _, err := to.Get(t.Context(), "data/1"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("got %v", err)
	}
}

// TestOtherAccounts: the service copies only within an account.
func TestOtherAccounts(t *testing.T) {
	first, second := storetest.NewAzure(t, 100, "backups"), storetest.NewAzure(t, 100, "backups")
	s := open(t, "backups/x", quick(first.Connection))
	storetest.Put(t, s, "1", []byte("one"))
	if ok, err := open(t, "backups/x", quick(second.Connection)).CopyFrom(t.Context(), s, "1", 3); ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
}

func TestMetadata(t *testing.T) {
	service := storetest.NewAzure(t, 100, "backups")
	o := quick(service.Connection)
	o.Metadata = map[string]string{"team": "infra"}
	s, to := open(t, "backups/x", o), open(t, "backups/y", o)
	storetest.Put(t, s, "small", []byte("1"))
	storetest.Put(t, s, "large", bytes.Repeat([]byte("12"), partBytes))
	if ok, err := to.CopyFrom(t.Context(), s, "large", 2*partBytes); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
	for _, name := range []string{"x/small", "x/large", "y/large"} {
		if got := service.Metadata("backups", name); got != "infra" {
			t.Errorf("%s has the metadata %q", name, got)
		}
	}
}

// TestErrors: what is wrong is said with what to do about it, without secrets.
func TestErrors(t *testing.T) {
	service := storetest.NewAzure(t, 100, "backups")
	if err := open(t, "missing/x", quick(service.Connection)).List(t.Context(), nil); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), `there is no container "missing"; create it`) {
		t.Errorf("got %v", err)
	}
	signed := "BlobEndpoint=http://127.0.0.1:1/account;SharedAccessSignature=sv=1&sig=verysecret"
	o := quick(signed)
	o.Attempts = 1
	if err := open(t, "backups", o).List(t.Context(), nil); err == nil || strings.Contains(err.Error(), "verysecret") {
		t.Errorf("got %v", err)
	}
	for _, c := range []struct {
		env  environment
		want string
	}{
		{environment{}, "set AZURE_STORAGE_ACCOUNT_CONNECTION_STRING"},
		{environment{envConnection: "verysecret"}, "want AccountName and AccountKey"},
		{environment{envAccount: "a", envKey: "not base64 verysecret"}, "want the key in base64"},
	} {
		_, err := New("backups", Options{Getenv: c.env.get})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%v: %v", c.env, err)
		}
	}
	// What is accepted.
	for _, c := range []struct {
		env  environment
		want string
	}{
		{environment{envAccount: "a", envKey: storetest.AzureKey}, "https://a.blob.core.windows.net/backups"},
		{environment{envAccount: "a"}, "https://a.blob.core.windows.net/backups"},
		{environment{envAccount: "a", envKey: storetest.AzureKey, envDomain: ".blob.core.chinacloudapi.cn"}, "https://a.blob.core.chinacloudapi.cn/backups"},
	} {
		s, err := New("backups/x", Options{Getenv: c.env.get})
		if err != nil || s.client.URL() != c.want {
			t.Errorf("%v: %v, want %s", c.env, err, c.want)
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("VMCLUSTER_AZURE_CONTAINER") != "" { // it keeps connections open
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

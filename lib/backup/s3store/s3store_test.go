package s3store

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/backup/storetest"
	"vmcluster/lib/errkind"
)

const partBytes = 100_000

// quick is for services in the process. Silence is long enough for a machine under load.
func quick(t *testing.T, endpoint string) Options {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	return Options{Endpoint: endpoint, Options: objects.Options{PartBytes: partBytes, MaxPause: time.Millisecond, Attempts: 5, Silence: time.Second}}
}

func open(t *testing.T, location string, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), location, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	o := quick(t, service.URL)
	storetest.Run(t, &storetest.Fixture{
		Open:      func(t *testing.T, dir string) backup.Store { return open(t, "backups/"+dir, o) },
		PartBytes: partBytes, Many: 2100, Faults: service.Faults,
	})
	if n := service.Unchecked.Load(); n > 0 {
		t.Errorf("%d bodies came without a checksum", n)
	}
}

// TestVirtualHosts has the bucket in the names of hosts, all of which are the service.
func TestVirtualHosts(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	o := quick(t, "http://s3.test")
	o.VirtualHosts = true
	var hosts []string
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		hosts = append(hosts, addr)
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(service.URL, "http://"))
	}
	s := open(t, "backups/x", o)
	data := bytes.Repeat([]byte("data"), partBytes)
	storetest.Put(t, s, "data/ä b", data)
	if got, err := storetest.Get(t.Context(), s, "data/ä b"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if ok, err := open(t, "backups/y", o).CopyFrom(t.Context(), s, "data/ä b", int64(len(data))); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
	if hosts[0] != "backups.s3.test:80" {
		t.Errorf("connected to %q", hosts)
	}
}

// TestEmulator runs the same against a program of somebody else; see make backup-emulators.
func TestEmulator(t *testing.T) {
	endpoint, bucket := os.Getenv("VMCLUSTER_S3_ENDPOINT"), os.Getenv("VMCLUSTER_S3_BUCKET")
	if endpoint == "" {
		t.Skip("VMCLUSTER_S3_ENDPOINT is not set")
	}
	const part = 5 << 20 // the least that services take
	o := Options{Endpoint: endpoint, Options: objects.Options{PartBytes: part}}
	storetest.Run(t, &storetest.Fixture{
		Open:      func(t *testing.T, dir string) backup.Store { return open(t, bucket+"/"+dir, o) },
		PartBytes: part, Many: 1100,
	})
	t.Run("copies of ranges", func(t *testing.T) {
		o.maxCopy = 5 * part
		copyInRanges(t, open(t, bucket+"/ranges/a", o), open(t, bucket+"/ranges/b", o), 6*part)
	})
}

// TestLargeCopies: what is too long for a copy in one request is copied in ranges.
func TestLargeCopies(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	o := quick(t, service.URL)
	o.maxCopy = 5 * partBytes
	copyInRanges(t, open(t, "backups/a b", o), open(t, "backups/c", o), 6*partBytes+5)
}

func copyInRanges(t *testing.T, from, to *Store, size int) {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	storetest.Put(t, from, "data/x y", data)
	if ok, err := to.CopyFrom(t.Context(), from, "data/x y", int64(size)); !ok || err != nil {
		t.Fatalf("got %t, %v", ok, err)
	}
	if got, err := storetest.Get(t.Context(), to, "data/x y"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// TestWithdrawn: of an object which cannot be completed nothing stays, also when the run is cancelled.
func TestWithdrawn(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	s := open(t, "backups", quick(t, service.URL))
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		service.Set(storetest.Fault{Method: "PUT", Arg: "partNumber=2", Do: storetest.Forbidden, Times: -1})
		body := &cancelling{Reader: bytes.NewReader(make([]byte, 3*partBytes)), cancel: cancel}
		if err := s.Put(ctx, "x", body, 3*partBytes); err == nil {
			t.Error("an upload which must fail succeeds")
		}
		cancel()
	}
	service.Set()
	list, err := s.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("backups")})
	if err != nil || len(list.Uploads) > 0 {
		t.Errorf("%d uploads are left, %v", len(list.Uploads), err)
	}
}

// cancelling is a body which cancels the run when half of it has been read.
type cancelling struct {
	*bytes.Reader
	cancel func()
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.Len() < int(c.Size()/2) {
		c.cancel()
	}
	return c.Reader.Read(p)
}

func TestDeleteAllVersions(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	service.KeepVersions(t)
	o := quick(t, service.URL)
	for _, all := range []bool{false, true} {
		o.DeleteAllVersions = all
		s := open(t, "backups", o)
		for _, key := range []string{"x", "x", "x", "xy"} {
			storetest.Put(t, s, key, []byte(key))
		}
		if err := s.Delete(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if n := service.Versions(t, "x"); all && n != 2 || !all && n < 4 {
			t.Errorf("all versions: %t; %d are left of x and xy", all, n)
		}
	}
	if got, err := storetest.Get(t.Context(), open(t, "backups", o), "xy"); err != nil || string(got) != "xy" {
		t.Errorf("a neighbour is gone: %q, %v", got, err)
	}
}

// TestDescribed: what flags say of objects is said to the service, however they are written.
func TestDescribed(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	o := quick(t, service.URL)
	o.StorageClass, o.ACL, o.KMSKeyID, o.SSEAlgorithm = "STANDARD_IA", "bucket-owner-full-control", "key-1", "aws:kms"
	o.Tags, o.Metadata = map[string]string{"a b": "c&d"}, map[string]string{"team": "infra"}
	s, to := open(t, "backups/x", o), open(t, "backups/y", o)
	storetest.Put(t, s, "small", []byte("1"))
	storetest.Put(t, s, "large", make([]byte, 2*partBytes))
	if ok, err := to.CopyFrom(t.Context(), s, "small", 1); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
	asked := map[string]int{}
	for _, h := range service.Described() {
		for name, want := range map[string]string{
			"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Acl": "bucket-owner-full-control", "X-Amz-Server-Side-Encryption": "aws:kms",
			"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key-1", "X-Amz-Tagging": "a+b=c%26d", "X-Amz-Meta-Team": "infra",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
			asked[name]++
		}
	}
	if asked["X-Amz-Acl"] != 3 {
		t.Errorf("%d requests write objects, want 3", asked["X-Amz-Acl"])
	}
	for _, algorithm := range []string{"CRC32", "SHA256"} {
		o.Checksum = algorithm
		storetest.Put(t, open(t, "backups/z", o), "small", []byte("1"))
		storetest.Put(t, open(t, "backups/z", o), "large", make([]byte, 2*partBytes))
	}
}

// TestErrors: what is wrong is said with what to do about it, without secrets.
func TestErrors(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	o := quick(t, service.URL)
	if err := open(t, "missing/x", o).List(t.Context(), nil); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), `there is no bucket "missing"; create it`) {
		t.Errorf("got %v", err)
	}
	for want, change := range map[string]func(o *Options){
		"cannot use -s3StorageClass": func(o *Options) { o.Endpoint, o.StorageClass = "", "CHEAP" },
		"cannot use -s3ACL":          func(o *Options) { o.Endpoint, o.ACL = "", "all" },
		"-customS3Endpoint":          func(o *Options) { o.Endpoint = "minio:9000" },
		"-configProfile":             func(o *Options) { o.Profile = "missing" },
		"cannot find credentials": func(o *Options) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			o.CredsFile = filepath.Join(t.TempDir(), "none")
		},
	} {
		bad := quick(t, service.URL)
		change(&bad)
		_, err := New(t.Context(), "backups", bad)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestFiles: credentials and region come from files.
func TestFiles(t *testing.T) {
	o, dir := quick(t, "http://127.0.0.1:1"), t.TempDir()
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	o.CredsFile, o.ConfigFile, o.Profile = filepath.Join(dir, "creds"), filepath.Join(dir, "config"), "ours"
	for name, text := range map[string]string{
		o.CredsFile:  "[ours]\naws_access_key_id = FROMFILE\naws_secret_access_key = x\n",
		o.ConfigFile: "[profile ours]\nregion = eu-north-1\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := o.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || c.AccessKeyID != "FROMFILE" || cfg.Region != "eu-north-1" {
		t.Errorf("got %q, %q, %v", c.AccessKeyID, cfg.Region, err)
	}
}

// TestCertificates: that of the service must be known, or flags say otherwise.
func TestCertificates(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	secured := httptest.NewTLSServer(service.Faults)
	defer secured.Close()
	secured.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o := quick(t, secured.URL)
	o.Attempts = 1
	if err := open(t, "backups", o).List(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
	o.SkipVerify = true
	storetest.Put(t, open(t, "backups", o), "x", []byte("1"))
	o.SkipVerify = false
	t.Setenv("AWS_CA_BUNDLE", ca)
	storetest.Put(t, open(t, "backups", o), "y", make([]byte, 2*partBytes))
}

// TestRegion: the service is asked where a bucket is, and a store goes there.
func TestRegion(t *testing.T) {
	service := storetest.NewS3(t, "backups")
	o := quick(t, "")
	t.Setenv("AWS_ENDPOINT_URL_S3", service.URL)
	service.SetRegion("eu-south-2")
	if s := open(t, "backups/x", o); s.client.Options().Region != "eu-south-2" {
		t.Errorf("the store is in %q", s.client.Options().Region)
	}
	if _, err := New(t.Context(), "missing", o); err == nil || !strings.Contains(err.Error(), `there is no bucket "missing"`) {
		t.Errorf("got %v", err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("VMCLUSTER_S3_ENDPOINT") != "" { // it keeps connections open
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

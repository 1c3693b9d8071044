package backuptool

import (
	"flag"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/backup/storetest"
)

func parse(t *testing.T, args ...string) (*Config, error) {
	t.Helper()
	c, fs := &Config{}, flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.RegisterFlags(fs, ":0", "sent")
	return c, fs.Parse(args)
}

// TestOpen has a URL of each kind, and flags that must reach the store.
func TestOpen(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "verysecret", "AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "none"),
		"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": storetest.AzureKey,
	} {
		t.Setenv(name, value)
	}
	s3, gcs := storetest.NewS3(t, "backups"), storetest.NewGCS(t, 10, "backups")
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(gcs.URL, "http://"))
	c, err := parse(t, "-customS3Endpoint="+s3.URL, `-objectMetadata={"team":"infra"}`, `-s3ObjectTags={"a":"b"}`, "-s3StorageClass=COLD", "-s3SSEKMSKeyId=key", "-s3ACL=private")
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"fs://" + t.TempDir(), "s3://backups/a/b", "gs://backups", "azblob://backups/x"} {
		s, err := c.Open(t.Context(), "dst", url)
		if err != nil || s.String() != url {
			t.Fatalf("%s: %v, %v", url, s, err)
		}
		if !strings.HasPrefix(url, "azblob") {
			storetest.Put(t, s, "x", []byte("1"))
		}
	}
	for name, want := range map[string]string{
		"X-Amz-Meta-Team": "infra", "X-Amz-Tagging": "a=b", "X-Amz-Storage-Class": "COLD", "X-Amz-Acl": "private",
		"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "key",
	} {
		if got := s3.Described()[0].Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := gcs.Metadata("backups", "x"); got["team"] != "infra" {
		t.Errorf("the object at gs:// has %q", got)
	}
	for url, want := range map[string]string{
		"/backups": "want a URL", "ftp://x": "no store is known for ftp://", "fs://x": "want an absolute path", "s3://": "the name of a bucket", "gs://b/../x": "empty elements, or . or ..",
	} {
		if s, err := c.Open(t.Context(), "dst", url); err == nil || s != nil || !strings.HasPrefix(err.Error(), "cannot use -dst=") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", url, s, err)
		}
	}
	if _, err := parse(t, `-s3ObjectTags={"a":1}`); err == nil || !strings.Contains(err.Error(), "with texts only") {
		t.Errorf("got %v", err)
	}
}

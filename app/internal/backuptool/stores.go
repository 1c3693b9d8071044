package backuptool

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/azurestore"
	"vmcluster/lib/backup/fsstore"
	"vmcluster/lib/backup/gcsstore"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/backup/s3store"
)

// storeConfig holds the flags of the stores.
type storeConfig struct {
	s3        s3store.Options
	pathStyle bool
	versions  bool
	metadata  texts
	tags      texts
}

// texts is the value of a flag which is a JSON object with texts in it.
type texts map[string]string

// String implements flag.Value.
func (t *texts) String() string {
	if len(*t) == 0 {
		return ""
	}
	data, err := json.Marshal(*t)
	if err != nil {
		panic(err) // texts only
	}
	return string(data)
}

// Set implements flag.Value.
func (t *texts) Set(s string) error {
	*t = nil
	if s == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s), t); err != nil {
		return fmt.Errorf(`want JSON such as {"name":"value"} with texts only: %w`, err)
	}
	return nil
}

func (c *storeConfig) registerFlags(fs *flag.FlagSet) {
	s := &c.s3
	fs.StringVar(&s.CredsFile, "credsFilePath", "", "File with credentials: as ~/.aws/credentials for s3://, a key in JSON for gs:// (default where the tools of AWS and Google look: environment, files, the identity of the machine or pod)")
	fs.StringVar(&s.ConfigFile, "configFilePath", "", "File with settings for s3://, as ~/.aws/config (default where the tools of AWS look)")
	fs.StringVar(&s.Profile, "configProfile", "", "Profile in those files (default AWS_PROFILE, or that which is called default)")
	fs.BoolVar(&c.versions, "deleteAllObjectVersions", false, "Delete with an object all its versions. By default a bucket with versioning keeps what is deleted there")
	fs.Var(&c.metadata, "objectMetadata", `Metadata of the objects that are written to s3://, gs:// and azblob://, as JSON: {"name":"value"}`)
	fs.StringVar(&s.Endpoint, "customS3Endpoint", "", "URL of a service which speaks the protocol of S3, such as http://minio:9000 (default Amazon S3)")
	fs.BoolVar(&c.pathStyle, "s3ForcePathStyle", true, "Put the bucket of s3:// into the paths of requests; false puts it in front of the host name")
	fs.StringVar(&s.StorageClass, "s3StorageClass", "", "Storage class of the objects that are written to s3://, such as STANDARD_IA; not one of which objects must be thawed before they are read (default that of the bucket)")
	fs.StringVar(&s.ACL, "s3ACL", "", "Canned ACL of the objects that are written to s3://, such as bucket-owner-full-control")
	fs.Var(&c.tags, "s3ObjectTags", `Tags of the objects that are written to s3://, as JSON: {"name":"value"}`)
	fs.StringVar(&s.KMSKeyID, "s3SSEKMSKeyId", "", "Key of KMS with which s3:// encrypts objects (default as the bucket is set up)")
	fs.StringVar(&s.SSEAlgorithm, "s3SSEAlgorithm", "aws:kms", "How s3:// encrypts objects when -s3SSEKMSKeyId is set: aws:kms or aws:kms:dsse; AES256 needs no key")
	fs.StringVar(&s.Checksum, "s3ChecksumAlgorithm", "", "Checksum which s3:// compares of all it gets: CRC32C, CRC32, CRC64NVME, SHA1 or SHA256; all but CRC32C are sent behind the bytes, which not every service understands (default CRC32C)")
	fs.BoolVar(&s.SkipVerify, "s3TLSInsecureSkipVerify", false, "Accept any certificate of the service of s3://")
}

// Open returns the store which the value of a flag names. The context bounds the opening only.
func (c *Config) Open(ctx context.Context, flagName, url string) (backup.Store, error) {
	s, err := c.stores.open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("cannot use -%s=%q: %w", flagName, url, err)
	}
	return s, nil
}

// OpenTagged is Open for a store of s3://, in which objects get one more tag.
func (c *Config) OpenTagged(ctx context.Context, flagName, url, tag, value string) (backup.Store, error) {
	if !strings.HasPrefix(url, "s3://") {
		return nil, fmt.Errorf("cannot use -%s=%q with the tag %q: only objects in s3:// have tags here", flagName, url, tag)
	}
	tagged := Config{stores: c.stores}
	tagged.stores.tags = texts{tag: value}
	for name, value := range c.stores.tags {
		tagged.stores.tags[name] = value
	}
	return tagged.Open(ctx, flagName, url)
}

func (c *storeConfig) open(ctx context.Context, url string) (backup.Store, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return nil, fmt.Errorf("want a URL, such as fs:///mnt/backups/node1 or s3://bucket/node1")
	}
	common := objects.Options{Metadata: c.metadata, DeleteAllVersions: c.versions}
	switch scheme {
	case "fs":
		return store(fsstore.New(rest))
	case "s3":
		o := c.s3
		o.Options, o.VirtualHosts, o.Tags = common, !c.pathStyle, c.tags
		return store(s3store.New(ctx, rest, o))
	case "gs":
		return store(gcsstore.New(ctx, rest, gcsstore.Options{Options: common, CredsFile: c.s3.CredsFile, Endpoint: emulator(os.Getenv("STORAGE_EMULATOR_HOST"))}))
	case "azblob":
		return store(azurestore.New(rest, azurestore.Options{Options: common, Getenv: os.Getenv}))
	}
	return nil, fmt.Errorf("no store is known for %s://; known are fs://, s3://, gs:// and azblob://", scheme)
}

// store keeps a pointer which is nil out of the interface.
func store[S backup.Store](s S, err error) (backup.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// emulator returns the URL of what Google's libraries know as host:port as well.
func emulator(host string) string {
	if host == "" || strings.Contains(host, "://") {
		return strings.TrimSuffix(host, "/")
	}
	return "http://" + host
}

package s3store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/errkind"
)

// Options say how the service is reached and what objects are written with.
type Options struct {
	objects.Options
	Endpoint     string // URL of another service than that of AWS
	VirtualHosts bool   // the bucket is in the host name of requests rather than in their path
	SkipVerify   bool   // of its certificate
	StorageClass string
	ACL          string
	Tags         map[string]string
	KMSKeyID     string // the service encrypts objects with this key
	SSEAlgorithm string // how it encrypts them: aws:kms, or AES256 also without a key
	Checksum     string // CRC32C by default

	CredsFile, ConfigFile string // instead of ~/.aws/credentials and ~/.aws/config
	Profile               string // in those

	maxCopy int64 // most bytes that the service copies in one request
}

// Store is a directory of a bucket.
type Store struct {
	o       Options
	at      objects.Location
	client  *s3.Client
	buffers objects.Buffers
}

var _ backup.Store = (*Store)(nil)

const (
	maxParts     = 10_000
	maxCopyBytes = 5 << 30
)

// New returns the store at a location, such as bucket/directory. It asks AWS in which region the bucket is.
func New(ctx context.Context, location string, o Options) (*Store, error) {
	o.SetDefaults()
	if o.maxCopy <= 0 {
		o.maxCopy = maxCopyBytes
	}
	at, err := objects.ParseLocation(location)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	cfg, err := o.load(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, at: at, client: o.client(cfg)}
	if o.Endpoint != "" {
		return s, nil
	}
	region, err := s.region(ctx)
	if err != nil {
		return nil, err
	}
	if region != "" && region != cfg.Region {
		cfg.Region = region
		s.client = o.client(cfg)
	}
	return s, nil
}

// check refuses values which the service would refuse after hours.
func (o *Options) check() error {
	for _, c := range []struct {
		flag, value string
		known       []string
	}{
		{"s3StorageClass", o.StorageClass, texts(types.StorageClass("").Values())},
		{"s3ACL", o.ACL, texts(types.ObjectCannedACL("").Values())},
		{"s3SSEAlgorithm", o.SSEAlgorithm, texts(types.ServerSideEncryption("").Values())},
		{"s3ChecksumAlgorithm", o.Checksum, texts(types.ChecksumAlgorithm("").Values())},
	} {
		// Other services than that of AWS have classes of their own.
		if c.value != "" && o.Endpoint == "" && !slices.Contains(c.known, c.value) {
			return errkind.New(errkind.BadRequest, "cannot use -%s=%q: want one of %q", c.flag, c.value, c.known)
		}
	}
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errkind.New(errkind.BadRequest, "cannot use -customS3Endpoint: want a URL, such as https://minio.example.com:9000")
		}
	}
	return nil
}

func texts[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

// load finds credentials and settings, as the tools of AWS do.
func (o *Options) load(ctx context.Context) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { objects.TuneTransport(t, &o.Options, o.SkipVerify) })
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithDefaultRegion("us-east-1"),
		config.WithLogger(logging.Nop{}), // what matters comes as errors
		config.WithSharedConfigProfile(o.Profile),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(s *retry.StandardOptions) {
				s.MaxAttempts, s.MaxBackoff = o.Attempts, o.MaxPause
				s.RateLimiter = ratelimit.None
			})
		}),
	}
	if o.CredsFile != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{o.CredsFile}))
	}
	if o.ConfigFile != "" {
		options = append(options, config.WithSharedConfigFiles([]string{o.ConfigFile}))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, errkind.New(errkind.BadRequest, "cannot read the settings of AWS: %w; see -configFilePath, -credsFilePath and -configProfile", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, errkind.New(errkind.Unauthorized, "cannot find credentials: %w; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or -credsFilePath, or give the machine or pod a role", err)
	}
	return cfg, nil
}

func (o *Options) client(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(c *s3.Options) {
		c.UsePathStyle = !o.VirtualHosts
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
		// We say which checksum we want; by itself the library uses a form of requests which many services do not know.
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}

// regionTimeout bounds how long the start may take when nobody answers.
const regionTimeout = 30 * time.Second

// region returns the region in which the bucket is, empty if it does not tell.
func (s *Store) region(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, regionTimeout)
	defer cancel()
	out, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.at.Bucket})
	if err == nil {
		return aws.ToString(out.BucketRegion), nil
	}
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok && r.Response != nil {
		if r.HTTPStatusCode() == http.StatusNotFound {
			return "", errkind.New(errkind.BadRequest, "there is no bucket %q; create it, or correct its name", s.at.Bucket)
		}
		// A permission for some prefixes only does not extend to this request, but the answer tells the region.
		if region := r.Response.Header.Get("X-Amz-Bucket-Region"); region != "" || r.HTTPStatusCode() == http.StatusForbidden {
			return region, nil
		}
	}
	return "", s.explain(err)
}

// String implements backup.Store.
func (s *Store) String() string { return "s3://" + s.at.String() }

// List implements backup.Store.
func (s *Store) List(ctx context.Context, visit func(key string, size int64)) error {
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.at.Bucket, Prefix: aws.String(s.at.Prefix())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s.explain(err)
		}
		for _, o := range page.Contents {
			if key := s.at.Key(aws.ToString(o.Key)); key != "" {
				visit(key, aws.ToInt64(o.Size))
			}
		}
	}
	return nil
}

// Get implements backup.Store.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return objects.NewReader(ctx, &s.o.Options, func(ctx context.Context, offset int64, version string) (objects.Opened, error) {
		in := &s3.GetObjectInput{Bucket: &s.at.Bucket, Key: aws.String(s.at.Name(key))}
		if offset > 0 {
			in.Range, in.IfMatch = aws.String(objects.RangeFrom(offset)), &version
		}
		out, err := s.client.GetObject(ctx, in)
		if err != nil {
			return objects.Opened{}, s.explain(err)
		}
		return objects.Opened{Body: out.Body, Size: offset + aws.ToInt64(out.ContentLength), Version: aws.ToString(out.ETag)}, nil
	})
}

// Delete implements backup.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	name := s.at.Name(key)
	if !s.o.DeleteAllVersions {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.at.Bucket, Key: &name})
		return s.explainDelete(err)
	}
	pages := s3.NewListObjectVersionsPaginator(s.client, &s3.ListObjectVersionsInput{Bucket: &s.at.Bucket, Prefix: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s.explain(err)
		}
		var versions []*string
		for _, v := range page.Versions {
			if aws.ToString(v.Key) == name {
				versions = append(versions, v.VersionId)
			}
		}
		for _, v := range page.DeleteMarkers {
			if aws.ToString(v.Key) == name {
				versions = append(versions, v.VersionId)
			}
		}
		for _, v := range versions {
			_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.at.Bucket, Key: &name, VersionId: v})
			if err := s.explainDelete(err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) explainDelete(err error) error {
	if err = s.explain(err); errkind.Of(err) == errkind.NotFound {
		return nil
	}
	return err
}

// Put implements backup.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	name := s.at.Name(key)
	if size <= s.o.PartBytes {
		return s.buffers.Each(body, size, size, func(p objects.Part) error {
			in := &s3.PutObjectInput{Bucket: &s.at.Bucket, Key: &name, Body: p.Reader(p.Bytes), ContentLength: aws.Int64(size)}
			s.describe(in)
			in.ChecksumAlgorithm, in.ChecksumCRC32C = s.checksum(p.Bytes)
			_, err := s.client.PutObject(ctx, in)
			return s.explain(err)
		})
	}
	return s.inParts(ctx, name, s.algorithm(), func(u *upload) error {
		return s.buffers.Each(body, size, objects.PartBytes(size, s.o.PartBytes, maxParts), func(p objects.Part) error { return u.send(ctx, p) })
	})
}

// describe sets how the object is to be kept.
func (s *Store) describe(in *s3.PutObjectInput) {
	in.Metadata, in.Tagging = s.o.Metadata, s.tagging()
	in.StorageClass, in.ACL = types.StorageClass(s.o.StorageClass), types.ObjectCannedACL(s.o.ACL)
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
}

func (s *Store) tagging() *string {
	if len(s.o.Tags) == 0 {
		return nil
	}
	values := url.Values{}
	for name, value := range s.o.Tags {
		values.Set(name, value)
	}
	return aws.String(values.Encode())
}

func (s *Store) encryption() (types.ServerSideEncryption, *string) {
	switch {
	case s.o.KMSKeyID != "":
		return types.ServerSideEncryption(s.o.SSEAlgorithm), &s.o.KMSKeyID
	case s.o.SSEAlgorithm == string(types.ServerSideEncryptionAes256):
		return types.ServerSideEncryptionAes256, nil
	}
	return "", nil
}

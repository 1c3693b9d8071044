package azurestore

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/errkind"
)

// Options say how the service is reached and what blobs are written with.
type Options struct {
	objects.Options
	Getenv func(name string) string // has the account and its credentials; os.Getenv
}

// The environment variables.
const (
	envConnection = "AZURE_STORAGE_ACCOUNT_CONNECTION_STRING"
	envAccount    = "AZURE_STORAGE_ACCOUNT_NAME"
	envKey        = "AZURE_STORAGE_ACCOUNT_KEY"
	envDomain     = "AZURE_STORAGE_DOMAIN"
)

// Store is a directory of a container.
type Store struct {
	o       Options
	at      objects.Location
	client  *container.Client
	buffers objects.Buffers
}

var _ backup.Store = (*Store)(nil)

// maxBlocks is the most blocks of a blob.
const maxBlocks = 50_000

// New returns the store at a location, such as container/directory.
func New(location string, o Options) (*Store, error) {
	o.SetDefaults()
	at, err := objects.ParseLocation(location)
	if err != nil {
		return nil, err
	}
	client, err := o.connect(at.Bucket)
	if err != nil {
		return nil, err
	}
	return &Store{o: o, at: at, client: client}, nil
}

// connect makes a client for a container of what the environment says. It sends nothing.
func (o *Options) connect(name string) (*container.Client, error) {
	c := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: &http.Client{Transport: objects.NewTransport(&o.Options)},
		Retry:     policy.RetryOptions{MaxRetries: int32(o.Attempts - 1), RetryDelay: min(o.MaxPause, retryDelay), MaxRetryDelay: o.MaxPause},
		Telemetry: policy.TelemetryOptions{ApplicationID: "vmbackup"},
	}}
	if text := o.Getenv(envConnection); text != "" {
		client, err := container.NewClientFromConnectionString(text, name, c)
		if err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot use %s: want AccountName and AccountKey, or BlobEndpoint and SharedAccessSignature, as the portal shows it", envConnection)
		}
		return client, nil
	}
	account := o.Getenv(envAccount)
	if account == "" {
		return nil, errkind.New(errkind.Unauthorized, "cannot tell the storage account: set %s, or %s and, unless the machine or pod has an identity, %s", envConnection, envAccount, envKey)
	}
	domain := o.Getenv(envDomain)
	if domain == "" {
		domain = "blob.core.windows.net"
	}
	target := "https://" + account + "." + strings.Trim(domain, "./") + "/" + url.PathEscape(name)
	if key := o.Getenv(envKey); key != "" {
		credential, err := container.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot use %s: want the key in base64, as the portal shows it", envKey)
		}
		return container.NewClientWithSharedKeyCredential(target, credential, c)
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, errkind.New(errkind.Unauthorized, "cannot find an identity: %w; set %s, or see docs/backups.md", err, envKey)
	}
	return container.NewClient(target, credential, c)
}

// String implements backup.Store.
func (s *Store) String() string { return "azblob://" + s.at.String() }

// blob returns the client of the blob of a key.
func (s *Store) blob(key string) *blockblob.Client {
	return s.client.NewBlockBlobClient(s.at.Name(key))
}

// List implements backup.Store.
func (s *Store) List(ctx context.Context, visit func(key string, size int64)) error {
	return s.list(ctx, &container.ListBlobsFlatOptions{Prefix: to.Ptr(s.at.Prefix()), Include: container.ListBlobsInclude{Copy: true}}, func(b *container.BlobItem) {
		if copied := b.Properties.CopyStatus; copied != nil && *copied != container.CopyStatusTypeSuccess {
			return
		}
		if key := s.at.Key(*b.Name); key != "" && b.Properties.ContentLength != nil {
			visit(key, *b.Properties.ContentLength)
		}
	})
}

func (s *Store) list(ctx context.Context, o *container.ListBlobsFlatOptions, visit func(b *container.BlobItem)) error {
	pages := s.client.NewListBlobsFlatPager(o)
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s.explain(err)
		}
		for _, b := range page.Segment.BlobItems {
			if b.Name != nil && b.Properties != nil {
				visit(b)
			}
		}
	}
	return nil
}

// Get implements backup.Store.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return objects.NewReader(ctx, &s.o.Options, func(ctx context.Context, offset int64, version string) (objects.Opened, error) {
		o := &blob.DownloadStreamOptions{}
		if offset > 0 {
			o.Range.Offset = offset
			o.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(version))}}
		}
		r, err := s.blob(key).DownloadStream(ctx, o)
		if err != nil {
			return objects.Opened{}, s.explain(err)
		}
		if copied := r.CopyStatus; copied != nil && *copied != blob.CopyStatusTypeSuccess {
			_ = r.Body.Close() // it is of no use
			return objects.Opened{}, errkind.New(errkind.NotFound, "object %q is a copy which is not complete", key)
		}
		if r.ContentLength == nil || r.ETag == nil {
			_ = r.Body.Close() // it is of no use
			return objects.Opened{}, errkind.New(errkind.Internal, "the service does not say how long object %q is", key)
		}
		return objects.Opened{Body: r.Body, Size: offset + *r.ContentLength, Version: string(*r.ETag)}, nil
	})
}

// Put implements backup.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	b := s.blob(key)
	if size <= s.o.PartBytes {
		return s.buffers.Each(body, size, size, func(p objects.Part) error {
			_, err := b.Upload(ctx, p.Reader(p.Bytes), &blockblob.UploadOptions{Metadata: s.metadata(), TransactionalValidation: checksum(p.Bytes)})
			return s.explain(err)
		})
	}
	var ids []string
	err := s.buffers.Each(body, size, objects.PartBytes(size, s.o.PartBytes, maxBlocks), func(p objects.Part) error {
		id := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(p.Number)))
		ids = append(ids, id)
		_, err := b.StageBlock(ctx, id, p.Reader(p.Bytes), &blockblob.StageBlockOptions{TransactionalValidation: checksum(p.Bytes)})
		return s.explain(err)
	})
	if err != nil {
		return err
	}
	_, err = b.CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{Metadata: s.metadata()})
	return s.explain(err)
}

// checksum returns what tells the service the checksum of the bytes of a request. MD5 costs more than the CRC64 which the service knows as well, some
// 1.5 ms per MiB, but emulators and gateways know it too.
func checksum(data []byte) blob.TransferValidationType {
	sum := md5.Sum(data)
	return blob.TransferValidationTypeMD5(sum[:])
}

func (s *Store) metadata() map[string]*string {
	m := make(map[string]*string, len(s.o.Metadata))
	for name, value := range s.o.Metadata {
		m[name] = &value
	}
	return m
}

// Delete implements backup.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	name := s.at.Name(key)
	if err := s.delete(ctx, s.client.NewBlobClient(name)); err != nil || !s.o.DeleteAllVersions {
		return err
	}
	var versions []string
	err := s.list(ctx, &container.ListBlobsFlatOptions{Prefix: &name, Include: container.ListBlobsInclude{Versions: true}}, func(b *container.BlobItem) {
		if *b.Name == name && b.VersionID != nil {
			versions = append(versions, *b.VersionID)
		}
	})
	for _, v := range versions {
		if err != nil {
			break
		}
		var old *blob.Client
		if old, err = s.client.NewBlobClient(name).WithVersionID(v); err == nil {
			err = s.delete(ctx, old)
		}
	}
	return err
}

func (s *Store) delete(ctx context.Context, b *blob.Client) error {
	_, err := b.Delete(ctx, nil)
	if err = s.explain(err); errkind.Of(err) == errkind.NotFound {
		return nil
	}
	return err
}

// CopyFrom implements backup.Store, within a storage account. The service copies any size, and goes on after it has answered.
func (s *Store) CopyFrom(ctx context.Context, from backup.Store, key string, size int64) (bool, error) {
	origin, ok := from.(*Store)
	if !ok || host(origin.client.URL()) != host(s.client.URL()) {
		return false, nil
	}
	b := s.blob(key)
	begun, err := b.StartCopyFromURL(ctx, origin.blob(key).URL(), &blob.StartCopyFromURLOptions{Metadata: s.metadata()})
	if err != nil {
		return false, s.explain(err)
	}
	is := blob.CopyStatusTypePending
	if begun.CopyStatus != nil {
		is = *begun.CopyStatus
	}
	for asked := 1; is == blob.CopyStatusTypePending; asked++ {
		if err := s.o.Pause(ctx, asked); err != nil {
			return false, err
		}
		p, err := b.GetProperties(ctx, nil)
		if err != nil {
			return false, s.explain(err)
		}
		if p.CopyStatus == nil || p.CopyID == nil || begun.CopyID == nil || *p.CopyID != *begun.CopyID {
			return false, errkind.New(errkind.Unavailable, "somebody else writes %q; two backups to one place do not go together", key)
		}
		is = *p.CopyStatus
		if is == blob.CopyStatusTypeSuccess && p.ContentLength != nil && *p.ContentLength != size {
			return false, errkind.New(errkind.Corrupt, "%d bytes have been copied, not %d", *p.ContentLength, size)
		}
	}
	if is != blob.CopyStatusTypeSuccess {
		return false, errkind.New(errkind.Unavailable, "the service has not copied it: %s", is)
	}
	return true, nil
}

// host returns what of a URL names the account: of an emulator it is in the path.
func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return fmt.Sprintf("%s://%s%s", u.Scheme, u.Host, u.Path[:strings.LastIndex(u.Path, "/")+1])
}

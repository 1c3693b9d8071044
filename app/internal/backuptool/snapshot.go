package backuptool

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"vmcluster/lib/certfiles"
	"vmcluster/lib/logger"
)

// Snapshots says which snapshot to back up.
type Snapshots struct {
	Name      string
	CreateURL string
	DeleteURL string
	TLS       certfiles.Settings // of https:// in both
	client    *http.Client
}

// RegisterFlags registers the flags about making snapshots.
func (c *Snapshots) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.CreateURL, "snapshot.createURL", "", "URL which makes a snapshot to back up, such as http://vmstorage:8482/snapshot/create; it is deleted in the end, however that comes")
	fs.StringVar(&c.DeleteURL, "snapshot.deleteURL", "", "URL which deletes it (default -snapshot.createURL with /create replaced by /delete)")
	t := &c.TLS
	t.Flag = "-snapshot.tls"
	fs.StringVar(&t.CAFile, "snapshot.tlsCAFile", "", "File with the CA certificates, in PEM, one of which must have signed the certificate of -snapshot.createURL (default the CAs of the system)")
	fs.StringVar(&t.CertFile, "snapshot.tlsCertFile", "", "File with the certificate shown to -snapshot.createURL, in PEM, if that demands one")
	fs.StringVar(&t.KeyFile, "snapshot.tlsKeyFile", "", "File with the key of -snapshot.tlsCertFile, in PEM")
	fs.StringVar(&t.ServerName, "snapshot.tlsServerName", "", "Name which the certificate of -snapshot.createURL must be for (default the host in it)")
	fs.BoolVar(&t.SkipVerify, "snapshot.tlsInsecureSkipVerify", false, "Accept any certificate of -snapshot.createURL")
}

// Connect makes the client of the URLs, so that bad files are found at the start.
func (c *Snapshots) Connect(log *logger.Logger) error {
	config, err := certfiles.NewClient(c.TLS, certfiles.Options{Logger: log})
	if err != nil {
		return err
	}
	c.client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config(""), DisableKeepAlives: true}}
	return nil
}

const (
	// createTimeout is far more than the flush takes which a snapshot is.
	createTimeout = 10 * time.Minute
	deleteTimeout = time.Minute
	maxAnswer     = 64 << 10
)

// Begin returns the name of the snapshot, and makes it if need be.
func (c *Snapshots) Begin(ctx context.Context, log *logger.Logger) (string, error) {
	name := c.Name
	if c.CreateURL != "" {
		ctx, cancel := context.WithTimeout(ctx, createTimeout)
		defer cancel()
		var err error
		if name, err = c.call(ctx, c.CreateURL); err != nil {
			return "", fmt.Errorf("cannot make a snapshot: %w; see -snapshot.createURL", err)
		}
		log.Infof("made snapshot %q", name)
	}
	// The name becomes a path.
	if !regexp.MustCompile(`^[0-9]{14}-[0-9A-F]{16}$`).MatchString(name) {
		return "", fmt.Errorf("cannot back up snapshot %q: want a name such as 20261122071901-18EA4CE0B2BEBB48; /snapshot/list has those there are", name)
	}
	return name, nil
}

// End deletes the snapshot if it was made for the backup, also when that was cancelled.
func (c *Snapshots) End(log *logger.Logger, name string) error {
	if c.CreateURL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	target := c.DeleteURL
	if target == "" {
		i := strings.LastIndex(c.CreateURL, "/create")
		if i < 0 {
			return errors.New("cannot tell how to delete the snapshot: set -snapshot.deleteURL")
		}
		target = c.CreateURL[:i] + "/delete" + c.CreateURL[i+len("/create"):]
	}
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("cannot delete snapshot %q: %w", name, err)
	}
	query := u.Query()
	query.Set("snapshot", name)
	u.RawQuery = query.Encode()
	if _, err := c.call(ctx, u.String()); err != nil {
		return fmt.Errorf("cannot delete snapshot %q: %w; delete it at /snapshot/delete, or it keeps disk space until -snapshotsMaxAge", name, err)
	}
	log.Infof("deleted snapshot %q", name)
	return nil
}

// call asks a node to do something about a snapshot and returns the name in its answer.
func (c *Snapshots) call(ctx context.Context, target string) (_ string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return "", err
	}
	response, err := c.client.Do(r)
	if err != nil {
		return "", withoutArgs(err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	var answer struct{ Status, Snapshot, Msg string }
	if err := json.Unmarshal(body, &answer); err != nil || response.StatusCode != http.StatusOK || answer.Status != "ok" {
		return "", fmt.Errorf("%s answers %s: %.200q", r.URL.Path, response.Status, body)
	}
	return answer.Snapshot, nil
}

// withoutArgs leaves the arguments, among which may be a key, out of an error.
func withoutArgs(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		e.URL, _, _ = strings.Cut(e.URL, "?")
	}
	return err
}

package insertapi

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/graphite"
	"vmcluster/lib/protoparser/opentsdb"
)

// Protocol is one of those that come as lines, without requests and answers.
type Protocol uint8

// The protocols.
const (
	Influx Protocol = iota
	Graphite
	OpenTSDB
)

// Lines stores lines of a protocol which nobody awaits an answer to. It is safe for concurrent use.
type Lines struct {
	api   *API
	route *route
	// MaxLen is the longest line in bytes which can be stored.
	MaxLen int
}

// Lines returns what stores lines of the protocol.
func (a *API) Lines(p Protocol) *Lines {
	switch p {
	case Influx:
		return &Lines{a, &a.routes[influxWrite], a.influxMaxLine}
	case Graphite:
		return &Lines{a, &a.routes[graphiteLines], graphite.MaxLineLen}
	default:
		return &Lines{a, &a.routes[openTSDBLines], opentsdb.MaxLineLen}
	}
}

// Store stores whole lines. While the storage cannot take them it tries again, so that the sender has to wait, until ctx ends. An error says that
// not all could be stored; lines which cannot be parsed are counted only, as there is nobody to tell.
func (l *Lines) Store(ctx context.Context, text []byte) error {
	req := protoparser.Request{
		Body: bytes.NewReader(text), Stream: true, DefaultTimestamp: time.Now().UnixMilli(),
		TenantFromLabels: l.api.style == Cluster,
	}
	turn := turn{limiter: l.api.limiter}
	if err := turn.begin(ctx); err != nil {
		return err
	}
	defer turn.end()
	var excess excess
	req.Sink = func(b *model.Batch) error {
		for wait := firstWait; ; wait = min(2*wait, mostWait) {
			err := l.api.store(ctx, l.route, &req, b, &excess)
			if err == nil || ctx.Err() != nil || tenantlimits.IsLimit(err) || !mayPass(err) {
				return err
			}
			l.api.warn.Warnf("cannot store lines of TCP or UDP, trying again: %s", err)
			turn.end() // others may write what this one cannot
			if !pause(ctx, wait) || turn.begin(ctx) != nil {
				return err
			}
		}
	}
	result, err := l.route.parse(&req)
	result, err = excess.settle(result, err)
	l.route.rows.Add(result.Rows)
	if result.Rows > 0 {
		l.route.perInsert.Update(float64(result.Rows))
	}
	return err
}

// How long to wait before rows are offered to the storage again.
const (
	firstWait = 100 * time.Millisecond
	mostWait  = 2 * time.Second
)

// turn is a slot of the limiter, or none.
type turn struct {
	limiter *limiter
	held    bool
}

// begin waits for a slot until ctx ends.
func (t *turn) begin(ctx context.Context) error {
	for {
		err := t.limiter.acquire(ctx)
		t.held = err == nil
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

func (t *turn) end() {
	if t.held {
		t.held = false
		t.limiter.release()
	}
}

// mayPass reports whether the storage may take later what it does not take now.
func mayPass(err error) bool {
	kind := errkind.Of(err)
	return kind.TryElsewhere() || kind == errkind.Internal
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// HandleOpenTSDB answers a request at the port for OpenTSDB over HTTP.
func (a *API) HandleOpenTSDB(w http.ResponseWriter, r *http.Request) {
	t, ok := a.parseOpenTSDBPath(r.URL.Path)
	if !ok {
		a.unsupported.Inc()
		want := "/api/put"
		if a.style == Cluster {
			want = "/insert/<accountID>[:<projectID>]/opentsdb/api/put"
		}
		a.fail(w, r, errkind.New(errkind.BadRequest, "unsupported path requested: %q; the port for OpenTSDB takes writes at %s", r.URL.Path, want))
		return
	}
	a.handleWrite(w, r, &t)
}

func (a *API) parseOpenTSDBPath(path string) (t target, ok bool) {
	t.format = openTSDBHTTP
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	if a.style == Cluster {
		suffix, ok := t.cutTenant(segments)
		return t, ok && suffix == "opentsdb/api/put"
	}
	suffix := strings.Join(segments, "/")
	return t, suffix == "opentsdb/api/put" || suffix == "api/put"
}

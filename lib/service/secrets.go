package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/fileurl"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// How long a secret may take to come from a URL, and how many bytes it may have.
const (
	secretTimeout = 10 * time.Second
	maxSecret     = 64 << 10
)

// How often secrets are read again.
const (
	secretFileInterval = 2 * time.Second
	secretURLInterval  = 10 * time.Second
)

// secret is the flag of a secret which comes from a file or a URL.
type secret struct {
	flag   *flag.Flag
	from   string // file or URL, for messages: the path may be secret itself
	path   string
	text   string // as read last
	failed string // why it could not be read; "" if it could
	next   time.Time
}

// findSecrets replaces values of secret flags which name a file or a URL by what is there, and returns these flags.
func findSecrets(fs *flag.FlagSet) (found []*secret, err error) {
	fs.Visit(func(f *flag.Flag) {
		if err != nil || !flagvalue.IsSecret(f.Name) {
			return
		}
		value := f.Value.String()
		s := &secret{flag: f}
		if path, ok := strings.CutPrefix(value, "file://"); ok {
			s.from, s.path = "file", path
		} else if fileurl.IsURL(value) && !strings.HasPrefix(f.Name, "pushmetrics.") { // which are URLs themselves
			s.from, s.path = "URL", value
		} else {
			return
		}
		if s.text, err = s.read(context.Background()); err == nil {
			err = f.Value.Set(s.text)
		}
		if err != nil {
			err = fmt.Errorf("cannot read flag -%s from %s: %w", f.Name, s.from, err)
		}
		found = append(found, s)
	})
	return found, err
}

func (s *secret) read(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	data, err := fileurl.Read(ctx, s.path, maxSecret)
	return strings.TrimRight(string(data), "\r\n"), err
}

// live reports whether the flag may be set while the process runs.
func live(v flag.Value) bool {
	l, ok := v.(interface{ Live() bool })
	return ok && l.Live()
}

// look reads the secret again and sets the flag when it has changed. When it cannot be read, or is empty, which would let everybody in, the old one stays.
func (s *secret) look(ctx context.Context) (changed bool, err error) {
	text, err := s.read(ctx)
	if err == nil && text == "" && s.text != "" {
		err = errors.New("it is empty")
	}
	if err != nil || text == s.text {
		return false, err
	}
	s.text = text
	return true, s.flag.Value.Set(text)
}

// secretWatch reads secrets again.
type secretWatch struct {
	secrets []*secret
	logger  *logger.Logger
	errors  *metrics.Counter
	cancel  context.CancelFunc
	loop    sync.WaitGroup
}

// watchSecrets begins to read the secrets again which may change while the process runs.
func watchSecrets(secrets []*secret, env *Env) *secretWatch {
	w := &secretWatch{logger: env.Logger, errors: env.Metrics.Counter("vm_secret_flags_read_errors_total")}
	for _, s := range secrets {
		if live(s.flag.Value) {
			w.secrets = append(w.secrets, s)
		}
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	if len(w.secrets) > 0 {
		w.loop.Go(func() { w.run(ctx) })
	}
	return w
}

func (w *secretWatch) run(ctx context.Context) {
	ticker := time.NewTicker(secretFileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, s := range w.secrets {
				w.check(ctx, s, now)
			}
		}
	}
}

// check reads a secret again if it is time, and says what has become of it when that is news.
func (w *secretWatch) check(ctx context.Context, s *secret, now time.Time) {
	if now.Before(s.next) {
		return
	}
	if s.from == "URL" {
		s.next = now.Add(secretURLInterval)
	}
	changed, err := s.look(ctx)
	why := ""
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		w.errors.Inc()
		if why = err.Error(); why != s.failed {
			w.logger.Errorf("cannot read flag -%s from its %s again, the value of before stays; see whether it is there and not empty: %s", s.flag.Name, s.from, err)
		}
	case changed:
		w.logger.Infof("the value of flag -%s has changed, as its %s says", s.flag.Name, s.from)
	case s.failed != "":
		w.logger.Infof("flag -%s can be read from its %s again; its value is what it was", s.flag.Name, s.from)
	}
	s.failed = why
}

// stop ends the watch.
func (w *secretWatch) stop() error {
	w.cancel()
	w.loop.Wait()
	return nil
}

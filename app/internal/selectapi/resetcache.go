package selectapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"vmcluster/lib/errkind"
)

// resetCache forgets all cached results, and, with propagate=1, has the other select nodes do so.
func (a *API) resetCache(w http.ResponseWriter, r *request) error {
	a.o.Engine.ResetCache()
	a.o.Logger.Infof("the result cache was reset for %s", r.RemoteAddr)
	if boolArg(r.Request, "propagate") {
		if err := a.resetOthers(r.Context()); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// resetOthers resets the caches of the other select nodes, all at once.
func (a *API) resetOthers(ctx context.Context) error {
	errs := make([]error, len(a.o.SelectNodes))
	var wg sync.WaitGroup
	for i, node := range a.o.SelectNodes {
		wg.Go(func() { errs[i] = a.resetOther(ctx, node) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return errkind.New(errkind.Unavailable, "cannot reset the result caches of all select nodes: %w", err)
	}
	return nil
}

// resetOther resets the cache of a select node. It takes the same key as this one.
func (a *API) resetOther(ctx context.Context, node string) (err error) {
	scheme, addr, ok := strings.Cut(node, "://")
	if !ok {
		scheme, addr = "http", node
	}
	if !strings.Contains(addr, ":") {
		addr += ":8481"
	}
	form := url.Values{"authKey": {a.o.Config.CacheResetAuthKey.Get()}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+addr+resetCachePath, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("bad -selectNode=%q, want host:port, with https:// before it for those with -tls: %w", node, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1024)) // to name the cause, if there is one
		return fmt.Errorf("-selectNode=%s answers %s: %s", node, res.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

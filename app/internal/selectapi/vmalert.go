package selectapi

import (
	"bytes"
	"errors"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
)

// ruleRoutes are the routes about alerting rules: those of the rule evaluator at -vmalert.proxyURL, or that there are none.
func (a *API) ruleRoutes() map[string]route {
	routes := map[string]route{}
	for name, body := range map[string]string{
		"rules":     `{"status":"success","data":{"groups":[]}}`,
		"alerts":    `{"status":"success","data":{"alerts":[]}}`,
		"notifiers": `{"status":"success","data":{"notifiers":[]}}`,
	} {
		serve := fixedJSON(body)
		if a.rules != nil {
			serve = func(w http.ResponseWriter, r *request) error { return a.proxyRules(w, r, "/api/v1/"+name) }
		}
		routes["/api/v1/"+name] = route{serve: serve, unlimited: true}
		routes["/"+name] = route{serve: serve, unlimited: true}
	}
	return routes
}

func fixedJSON(body string) serveFunc {
	return func(w http.ResponseWriter, _ *request) error { return writeJSON(w, []byte(body)) }
}

// ProxyURL is the address of another server, as a flag. The zero value is none.
type ProxyURL struct{ url *url.URL }

// String returns the address without its password.
func (u *ProxyURL) String() string {
	if u.url == nil {
		return ""
	}
	return u.url.Redacted()
}

// Set parses the address; none when empty.
func (u *ProxyURL) Set(s string) error {
	if u.url = nil; s == "" {
		return nil
	}
	parsed, err := url.Parse(s)
	if err != nil {
		return err
	}
	if parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return errors.New("want an address such as http://vmalert:8880")
	}
	u.url = parsed
	return nil
}

// newRuleProxy returns what passes requests to the rule evaluator, or nil without an address.
func newRuleProxy(o *Options) *httputil.ReverseProxy {
	target := o.Config.VMAlertProxyURL.url
	if target == nil {
		return nil
	}
	return &httputil.ReverseProxy{
		// Connections are not kept, so that there is nothing to close: these pages are rarely looked at.
		Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 30 * time.Second, Proxy: http.ProxyFromEnvironment},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Header.Del("Authorization") // the password of this server is none of the other's business
			p.Out.Header.Del("Cookie")
			if password, ok := target.User.Password(); ok {
				p.Out.SetBasicAuth(target.User.Username(), password)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			httpserver.Error(w, r, o.Logger, errkind.New(errkind.Unavailable, "cannot ask vmalert at -vmalert.proxyURL: %w", err))
		},
		ErrorLog: log.New(proxyLog{o.Logger}, "", 0),
	}
}

// proxyLog writes what the proxy has to say into the log.
type proxyLog struct{ *logger.Logger }

func (l proxyLog) Write(p []byte) (int, error) {
	l.Warnf("vmalert proxy: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// proxyRules passes the request to the rule evaluator, under the given path.
func (a *API) proxyRules(w http.ResponseWriter, r *request, path string) error {
	out := r.Clone(r.Context())
	out.URL.Path, out.URL.RawPath = path, ""
	if r.Method == http.MethodPost { // its arguments have been read; they are few
		out.Method, out.Body, out.ContentLength = http.MethodGet, nil, 0
		out.URL.RawQuery = r.Form.Encode()
	}
	h := w.Header()
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods"} {
		h.Del(name) // the other server sends its own
	}
	a.rules.ServeHTTP(w, out)
	return nil
}

// handleVMAlert serves the pages of the rule evaluator, or returns false when the path, which is without tenant, is none of them.
func (a *API) handleVMAlert(w http.ResponseWriter, r *request, path string) bool {
	rest, ok := strings.CutPrefix(path, "/vmalert")
	if !ok || rest != "" && rest[0] != '/' {
		return false
	}
	if rest == "" && !strings.HasSuffix(r.URL.Path, "/") {
		location := "vmalert/" // relative, since there may be a proxy with a prefix before this server
		if !a.o.SingleNode {
			location = "../prometheus/vmalert/"
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
		return true
	}
	a.serve(w, r, route{Endpoint: a.vmalert, unlimited: true, plainText: true, serve: func(w http.ResponseWriter, r *request) error {
		if a.rules == nil {
			return errkind.New(errkind.BadRequest, "cannot show pages of vmalert: set -vmalert.proxyURL to its address")
		}
		if strings.HasSuffix(r.URL.Path, "/") {
			rest += "/"
		}
		return a.proxyRules(w, r, "/vmalert"+rest)
	}})
	return true
}

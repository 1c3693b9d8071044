package httpserver

import (
	"bytes"
	"flag"
	"fmt"
	"html"
	"net/http"
	"net/http/pprof"
	"strings"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metrics"
)

// registerBuiltin sets up what every component answers.
func (s *Server) registerBuiltin() {
	c := s.o.Config
	s.builtin = map[string]http.HandlerFunc{
		"/-/healthy":   text("VictoriaMetrics is Healthy.\n"),
		"/-/ready":     text("VictoriaMetrics is Ready.\n"),
		"/ping":        ping,
		"/robots.txt":  text("User-agent: *\nDisallow: /\n"),
		"/favicon.ico": favicon,
		"/metrics":     s.metrics,
		"/flags":       s.flags,
	}
	for path := range s.builtin {
		s.requests[path] = s.o.Metrics.Counter(fmt.Sprintf("vm_http_requests_total{path=%q}", path))
	}
	for _, path := range []string{"/health", "/debug/pprof/"} {
		s.requests[path] = s.o.Metrics.Counter(fmt.Sprintf("vm_http_requests_total{path=%q}", path))
	}
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/cmdline", cmdline)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s.builtin["/debug/pprof/"] = func(w http.ResponseWriter, r *http.Request) {
		if CheckAuthKey(w, r, "pprofAuthKey", c.PprofAuthKey) {
			profiles.ServeHTTP(w, r)
		}
	}
}

// builtinRoute returns the handler for a path every component has, or nil.
func (s *Server) builtinRoute(path string) http.HandlerFunc {
	if strings.HasPrefix(path, "/debug/pprof/") {
		path = "/debug/pprof/"
	}
	serve, ok := s.builtin[path]
	if !ok {
		return nil
	}
	s.count(path)
	return serve
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		write(w, body)
	}
}

// write sends a small answer; a client that went away cannot be told.
func write(w http.ResponseWriter, body string) { _, _ = w.Write([]byte(body)) }

func (s *Server) health(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.draining.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		write(w, "The server is shutting down")
		return
	}
	write(w, "OK")
}

func ping(w http.ResponseWriter, r *http.Request) {
	if v := r.FormValue("verbose"); v != "" && v != "0" && v != "false" {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// favicon answers a one-pixel transparent image.
func favicon(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/x-icon")
	w.Header().Set("Cache-Control", "max-age=3600")
	write(w, "\x00\x00\x01\x00\x01\x00\x01\x01\x00\x00\x01\x00\x18\x00\x30\x00\x00\x00\x16\x00\x00\x00"+
		"\x28\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x18\x00"+strings.Repeat("\x00", 24)+"\x5b\x2a\x88\x00\x00\x00\x00\x00")
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if !CheckAuthKey(w, r, "metricsAuthKey", s.o.Config.MetricsAuthKey) {
		return
	}
	var b bytes.Buffer
	if err := s.o.Metrics.Write(&b, s.o.Config.ExposeMetadata); err != nil {
		Error(w, r, s.o.Logger, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // a client that went away cannot be told
}

func (s *Server) flags(w http.ResponseWriter, r *http.Request) {
	if !CheckAuthKey(w, r, "flagsAuthKey", s.o.Config.FlagsAuthKey) {
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	s.o.Flags.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		if flagvalue.IsSecret(f.Name) {
			value = "secret"
		}
		write(w, fmt.Sprintf("-%s=%q\n", f.Name, value))
	})
}

// RegisterFlagMetrics adds flag{name,value,is_set} for all flags.
func RegisterFlagMetrics(set *metrics.Set, fs *flag.FlagSet) {
	set.AddCollector(func(w *metrics.Writer) {
		isSet := map[string]bool{}
		fs.Visit(func(f *flag.Flag) { isSet[f.Name] = true })
		fs.VisitAll(func(f *flag.Flag) {
			value := f.Value.String()
			if flagvalue.IsSecret(f.Name) {
				value = "secret"
			}
			w.Gauge(fmt.Sprintf("flag{name=%q, value=%q, is_set=\"%t\"}", f.Name, value, isSet[f.Name]), 1)
		})
	})
}

// ServeIndex answers the page at / with what the component is and links to
// what it serves, or returns false for other paths.
func ServeIndex(w http.ResponseWriter, r *http.Request, name, role string, links ...string) bool {
	if r.URL.Path != "/" {
		return false
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<title>%[1]s</title>\n<h1>%[1]s</h1>\n<p>%[1]s %[2]s.</p>\n<ul>\n", html.EscapeString(name), html.EscapeString(role))
	for _, link := range links {
		fmt.Fprintf(&b, "<li><a href=%q>%s</a></li>\n", strings.TrimPrefix(link, "/"), link)
	}
	b.WriteString("</ul>\n")
	write(w, b.String())
	return true
}

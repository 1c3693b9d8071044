package graphiteapi

import (
	"bufio"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/graphite"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/model"
)

// boolArg reports whether an argument asks for something.
func boolArg(r *request, name string) bool {
	switch strings.ToLower(r.Form.Get(name)) {
	case "", "0", "f", "false", "no":
		return false
	}
	return true
}

// intArg returns a whole number, or def when missing.
func intArg(r *request, name string, def int) (int, error) {
	s := r.Form.Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse %s=%q: %w", name, s, err)
	}
	return n, nil
}

// zoned returns now in the time zone that the request names, UTC by default.
func (a *API) zoned(r *request) (time.Time, error) {
	name := r.Form.Get("tz")
	if name == "" {
		return a.o.Now().UTC(), nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.Time{}, errkind.New(errkind.BadRequest, "cannot parse tz=%q: %w", name, err)
	}
	return a.o.Now().In(zone), nil
}

// timeArg returns a time in Unix milliseconds, or def when missing.
func timeArg(r *request, name string, def int64, now time.Time) (int64, error) {
	s := r.Form.Get(name)
	if s == "" {
		return def, nil
	}
	ms, err := graphite.ParseTime(s, now)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse %s=%q: %w", name, s, err)
	}
	return ms, nil
}

// rangeArg returns the range of from and until, by default all time up to now.
func (a *API) rangeArg(r *request) (model.TimeRange, error) {
	now, err := a.zoned(r)
	if err != nil {
		return model.TimeRange{}, err
	}
	from, err := timeArg(r, "from", 0, now)
	if err != nil {
		return model.TimeRange{}, err
	}
	until, err := timeArg(r, "until", now.UnixMilli(), now)
	return model.TimeRange{Min: from, Max: max(from, until)}, err
}

// labelOf returns the label behind a tag.
func labelOf(tag string) string {
	if tag == "name" {
		return model.MetricNameLabel
	}
	return tag
}

// tagOf returns the tag behind a label.
func tagOf(label string) string {
	if label == model.MetricNameLabel {
		return "name"
	}
	return label
}

// tagFilter returns the filter behind a condition on a tag.
func tagFilter(e graphite.TagExpr) model.TagFilter {
	f := model.TagFilter{Name: labelOf(e.Tag), Value: e.Value, Op: model.Equal}
	switch {
	case e.Regexp && e.Negated:
		f.Op, f.Value = model.NotRegexp, e.Pattern()
	case e.Regexp:
		f.Op, f.Value = model.Regexp, e.Pattern()
	case e.Negated:
		f.Op = model.NotEqual
	}
	return f
}

// exprArgs returns the filters of the expr arguments.
func exprArgs(r *request) ([]model.TagFilter, error) {
	var filters []model.TagFilter
	for _, s := range r.Form["expr"] {
		e, err := graphite.ParseTagExpr(s)
		if err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot parse `expr` query arg: %w", err)
		}
		filters = append(filters, tagFilter(e))
	}
	return filters, nil
}

// filterArg returns the regular expression in the filter argument, which matches at the start; nil when missing.
func filterArg(r *request) (*regexp.Regexp, error) {
	s := r.Form.Get("filter")
	if s == "" {
		return nil, nil
	}
	re, err := regexp.Compile("^(?:" + s + ")")
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot parse regexp filter=%q: %w", s, err)
	}
	return re, nil
}

// checkCallback refuses callbacks which are more than the name of a function.
func checkCallback(name string) error {
	for i := range len(name) {
		c := name[i]
		if c != '_' && c != '$' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') || i > 100 {
			return errkind.New(errkind.BadRequest, "cannot use jsonp=%q: want the name of a function, of letters, digits, _, $ and dots, up to 100 characters", name)
		}
	}
	return nil
}

// sender remembers whether something has been sent.
type sender struct {
	w    http.ResponseWriter
	sent bool
}

func (s *sender) Write(p []byte) (int, error) {
	s.sent = true
	n, err := s.w.Write(p)
	return n, selectapi.Sent(err)
}

// writeJSON answers with what write writes, as a call of the jsonp argument if there is one. What fails after a part of the answer has
// been sent breaks the connection, so that the client notices.
func (a *API) writeJSON(w http.ResponseWriter, r *request, write func(b *bufio.Writer) error) error {
	callback, contentType := r.Form.Get("jsonp"), "application/json"
	if callback != "" {
		contentType = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", contentType)
	s := &sender{w: w}
	b := bufio.NewWriterSize(s, 64<<10)
	if callback != "" {
		_, _ = b.WriteString(callback + "(") // Flush tells
	}
	if err := write(b); err != nil {
		if !s.sent || selectapi.IsSent(err) {
			return err
		}
		a.o.Logger.Errorf("cannot finish the answer to %s: %s", httpserver.LoggedURI(r.Request), err)
		panic(http.ErrAbortHandler)
	}
	if callback != "" {
		_ = b.WriteByte(')') // Flush tells
	}
	return b.Flush()
}

// writeValue answers with a value as JSON.
func (a *API) writeValue(w http.ResponseWriter, r *request, v any) error {
	return a.writeJSON(w, r, func(b *bufio.Writer) error {
		text, err := json.Marshal(v)
		_, _ = b.Write(text) // Flush tells
		return err
	})
}

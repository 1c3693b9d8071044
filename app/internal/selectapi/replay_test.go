package selectapi_test

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var updateReplay = flag.Bool("update-replay", false, "rewrite the list of recorded requests which are answered otherwise")

const (
	recordedFile = "testdata/replay/samples.jsonl.gz"
	differsFile  = "testdata/replay/differs.txt"
)

// recorded is a request with the answer of the system we replace. How Compare and the fields after it are meant is told
// in testdata/replay/README.md.
type recorded struct {
	ID      string            `json:"id"`
	On      string            `json:"on"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Query   string            `json:"query"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	BodyB64 string            `json:"body_b64"`

	Compare     string            `json:"compare"`
	Vary        []string          `json:"vary"`
	Mask        [][2]string       `json:"mask"`
	StatusAlt   []int             `json:"status_alt"`
	Status      int               `json:"status"`
	WantHeaders map[string]string `json:"response_headers"`
	ErrorType   string            `json:"error_type"`
	Response    *string           `json:"response"`
	ResponseB64 *string           `json:"response_b64"`
}

// TestReplay makes the recorded requests in their order and compares the answers. Those which differ are listed with the
// reason; a listed one that agrees fails as well, so that the list can only shrink. -update-replay rewrites it.
func TestReplay(t *testing.T) {
	known, order := readDiffers(t)
	s := startServers(t)
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(client.CloseIdleConnections)
	var differing []string
	n := 0
	for _, r := range readRecorded(t) {
		n++
		status, header, body := s.ask(client, r)
		diff := r.diff(status, header, body)
		reason, listed := known[r.ID]
		switch {
		case diff != "":
			differing = append(differing, r.ID)
			if !listed && !*updateReplay {
				t.Errorf("%s: %s %s %s?%s\n%s", r.ID, r.On, r.Method, r.Path, r.Query, diff)
			}
		case listed && !*updateReplay:
			t.Errorf("%s agrees, but %s lists it (%s); run with -update-replay", r.ID, differsFile, reason)
		}
	}
	if *updateReplay {
		writeDiffers(t, known, order, differing)
	}
	t.Logf("%d requests, %d answered otherwise", n, len(differing))
}

// ask makes a request and returns the answer.
func (s *servers) ask(client *http.Client, r *recorded) (int, http.Header, []byte) {
	t := s.t
	t.Helper()
	now := time.Now()
	uri := substituteNow(r.Path+"?"+r.Query, "now", now.Unix())
	body := r.Body
	if r.BodyB64 != "" {
		b, err := base64.StdEncoding.DecodeString(r.BodyB64)
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, s.bases[r.On]+uri, strings.NewReader(substituteNow(body, "nowms", now.UnixMilli())))
	if err != nil {
		t.Fatalf("%s: %s", r.ID, err)
	}
	for name, value := range r.Headers {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return -1, nil, []byte(err.Error())
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		answer = append(answer, "<CONNECTION CUT>"...)
	}
	return resp.StatusCode, resp.Header, answer
}

// substituteNow replaces {word}, {word+5} and {word-5} by the time.
func substituteNow(s, word string, now int64) string {
	return regexp.MustCompile(`\{`+word+`([+-]\d+)?\}`).ReplaceAllStringFunc(s, func(m string) string {
		shift, _ := strconv.ParseInt(m[1+len(word):len(m)-1], 10, 64)
		return strconv.FormatInt(now+shift, 10)
	})
}

// diff returns what differs from the recorded answer, or nothing.
func (r *recorded) diff(status int, header http.Header, body []byte) string {
	if slices.Contains(r.StatusAlt, status) && (status != r.Status || status == http.StatusOK) {
		return ""
	}
	var out []string
	if status != r.Status {
		out = append(out, fmt.Sprintf("status %d, want %d", status, r.Status))
	}
	for name, want := range r.WantHeaders {
		if got := header.Get(name); got != want {
			out = append(out, fmt.Sprintf("header %s: %q, want %q", name, got, want))
		}
	}
	if r.Compare == "status" {
		return strings.Join(out, "\n")
	}
	switch {
	case r.Status >= 400:
		var answer struct{ ErrorType string }
		if err := json.Unmarshal(body, &answer); r.ErrorType != "" && (err != nil || answer.ErrorType != r.ErrorType) {
			out = append(out, fmt.Sprintf("errorType %q, want %q", answer.ErrorType, r.ErrorType))
		}
	case r.Compare == "size":
		empty := (r.Response == nil || *r.Response == "") && (r.ResponseB64 == nil || *r.ResponseB64 == "")
		if empty != (len(body) == 0) {
			out = append(out, fmt.Sprintf("%d bytes of answer; want none: %v", len(body), empty))
		}
	case r.Response != nil:
		if got, want := r.canonical(string(body)), r.canonical(*r.Response); got != want {
			out = append(out, "got  "+cut(got)+"\nwant "+cut(want))
		}
	}
	return strings.Join(out, "\n")
}

func cut(s string) string { return s[:min(len(s), 1500)] }

// canonical brings an answer into the form which is compared.
func (r *recorded) canonical(text string) string {
	for _, m := range r.Mask {
		text = regexp.MustCompile(m[0]).ReplaceAllString(text, strings.ReplaceAll(m[1], `\1`, "$1"))
	}
	if r.Compare == "lines" {
		var lines []string
		for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			lines = append(lines, r.canonicalJSON(line))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	return r.canonicalJSON(text)
}

func (r *recorded) canonicalJSON(text string) string {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil || d.More() {
		return sortLabels(text)
	}
	switch r.Compare {
	case "shape":
		v = shapeOf(v)
	case "keys":
		v = shapeKeys(v)
	default:
		v = r.masked(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// sortLabels sorts the labels of a line of text exposition.
func sortLabels(line string) string {
	m := regexp.MustCompile(`^([^{]*\{)(.*)(\} [^}]*)$`).FindStringSubmatch(line)
	if m == nil {
		return line
	}
	labels := regexp.MustCompile(`("(?:[^"\\]|\\.)*"|[^=",]+)(="(?:[^"\\]|\\.)*")?`).FindAllString(m[2], -1)
	slices.Sort(labels)
	return m[1] + strings.Join(labels, ",") + m[3]
}

// shapeOf keeps keys and types; of lists the distinct shapes of their items.
func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, x := range v {
			m[k] = shapeOf(x)
		}
		return m
	case []any:
		var list []string
		for _, x := range v {
			b, _ := json.Marshal(shapeOf(x)) // of strings, lists and maps only
			list = append(list, string(b))
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	return fmt.Sprintf("%T", v)
}

func shapeKeys(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprintf("%T", v)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// variable are the members which change from run to run.
func variable(key string) bool {
	switch key {
	case "executionTimeMsec", "duration_msec", "lastRequestTimestamp", "lastQueryRequestTimestamp", "statsCollectedSince", "duration", "remote_addr",
		"trackerMemoryMaxSizeBytes", "trackerCurrentMemoryUsageBytes", "avgDurationSeconds", "sumDurationSeconds", "avgMemoryBytes", "timeRangeSeconds":
		return true
	}
	return false
}

func (r *recorded) masked(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, x := range v {
			switch {
			case slices.Contains(r.Vary, "-"+k):
			case k == "trace":
				m[k] = traceShape(x)
			case variable(k) || slices.Contains(r.Vary, k):
				m[k] = shapeOf(x)
			default:
				m[k] = r.masked(x)
			}
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = r.masked(x)
		}
		if r.Compare == "unordered" {
			slices.SortFunc(list, func(a, b any) int {
				x, _ := json.Marshal(a) // decoded from JSON
				y, _ := json.Marshal(b)
				return strings.Compare(string(x), string(y))
			})
		}
		return list
	}
	return v
}

// traceShape says whether there is a trace; what is in it is up to the implementation.
func traceShape(v any) any {
	m, ok := v.(map[string]any)
	if !ok || m["message"] == nil {
		return shapeOf(v)
	}
	return []any{shapeOf(m["message"]), shapeOf(m["duration_msec"]), m["children"] != nil}
}

func readRecorded(t *testing.T) []*recorded {
	t.Helper()
	f, err := os.Open(recordedFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []*recorded
	for d := json.NewDecoder(bufio.NewReader(z)); d.More(); {
		r := &recorded{}
		if err := d.Decode(r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// readDiffers reads the list; a line is an id, a bar and a reason.
func readDiffers(t *testing.T) (reasons map[string]string, order []string) {
	t.Helper()
	text, err := os.ReadFile(differsFile)
	if err != nil && !*updateReplay {
		t.Fatal(err)
	}
	reasons = map[string]string{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		id, reason, _ := strings.Cut(line, " | ")
		if reason == "" || reasons[id] != "" {
			t.Errorf("%s: %q has no reason, or is there twice", differsFile, id)
		}
		reasons[id] = reason
		order = append(order, id)
	}
	return reasons, order
}

func writeDiffers(t *testing.T, known map[string]string, order, differing []string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Recorded requests which are answered otherwise: id | reason. Rewritten by: go test -run TestReplay -update-replay\n")
	for _, id := range order {
		if slices.Contains(differing, id) {
			fmt.Fprintf(&b, "%s | %s\n", id, known[id])
		}
	}
	for _, id := range differing {
		if known[id] == "" {
			fmt.Fprintf(&b, "%s | \n", id) // somebody has to say why
		}
	}
	if err := os.WriteFile(differsFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

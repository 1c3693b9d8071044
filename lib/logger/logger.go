package logger

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metrics"
)

// Level is the severity of a record.
type Level uint8

// The levels, in rising order of severity.
const (
	Info Level = iota
	Warn
	Error
	Fatal
	Panic
)

func (l Level) String() string {
	switch l {
	case Info:
		return "info"
	case Warn:
		return "warn"
	case Error:
		return "error"
	case Fatal:
		return "fatal"
	}
	return "panic"
}

// Config holds the -logger* flags.
type Config struct {
	Format            string
	MinLevel          string
	Output            string
	Timezone          string
	DisableTimestamps bool
	JSONFields        string
	ErrorsPerSecond   int
	WarnsPerSecond    int
	MaxArgLen         int
}

// RegisterFlags registers the -logger* flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Format, "loggerFormat", "default", "Format of log records: default or json")
	fs.StringVar(&c.MinLevel, "loggerLevel", "INFO", "Least severe level to log: INFO, WARN, ERROR, FATAL or PANIC")
	fs.StringVar(&c.Output, "loggerOutput", "stderr", "Where log records go: stderr or stdout")
	fs.StringVar(&c.Timezone, "loggerTimezone", "UTC", "Time zone of timestamps in log records, such as Europe/Berlin or Local")
	fs.BoolVar(&c.DisableTimestamps, "loggerDisableTimestamps", false, "Leave timestamps out of log records")
	fs.StringVar(&c.JSONFields, "loggerJSONFields", "", "New names for the fields of JSON records, such as ts:timestamp,msg:message; the fields are ts, level, caller and msg")
	fs.IntVar(&c.ErrorsPerSecond, "loggerErrorsPerSecondLimit", 0, "Error records per second and place in the code; the rest is counted but not printed; 0 means no limit")
	fs.IntVar(&c.WarnsPerSecond, "loggerWarnsPerSecondLimit", 0, "Warning records per second and place in the code; the rest is counted but not printed; 0 means no limit")
	fs.IntVar(&c.MaxArgLen, "loggerMaxArgLen", 5000, "Longest argument of a log record in bytes; the middle of a longer one is cut out; 0 means no limit")
}

// Logger writes records to one output.
type Logger struct {
	w                 io.Writer
	set               *metrics.Set
	json              bool
	fields            map[string]string
	min               Level
	zone              *time.Location
	disableTimestamps bool
	limits            [Panic + 1]int
	maxArgLen         int
	now               func() time.Time

	mu struct {
		sync.Mutex
		second int64
		counts map[string]int // records in this second by level and location
	}
}

// New returns a logger which writes to w and counts records in set.
func New(c *Config, w io.Writer, set *metrics.Set) (*Logger, error) {
	l := &Logger{w: w, set: set, maxArgLen: c.MaxArgLen, disableTimestamps: c.DisableTimestamps, now: time.Now, zone: time.UTC}
	l.mu.counts = map[string]int{}
	l.limits[Error], l.limits[Warn] = c.ErrorsPerSecond, c.WarnsPerSecond
	switch c.Format {
	case "json":
		l.json = true
	case "default", "":
	default:
		return nil, fmt.Errorf("unsupported -loggerFormat=%q: want default or json", c.Format)
	}
	var err error
	if l.min, err = parseLevel(c.MinLevel); err != nil {
		return nil, err
	}
	if c.Timezone != "" {
		if l.zone, err = time.LoadLocation(c.Timezone); err != nil {
			return nil, fmt.Errorf("cannot load -loggerTimezone=%q: %w", c.Timezone, err)
		}
	}
	l.fields, err = parseFields(c.JSONFields)
	return l, err
}

// Discard returns a logger which drops everything, for tests and tools.
func Discard() *Logger {
	l, err := New(&Config{}, io.Discard, metrics.NewSet())
	if err != nil {
		panic(err) // the empty configuration is valid
	}
	return l
}

func parseLevel(s string) (Level, error) {
	if s == "" {
		return Info, nil
	}
	for l := Info; l <= Panic; l++ {
		if strings.EqualFold(s, l.String()) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unsupported -loggerLevel=%q: want INFO, WARN, ERROR, FATAL or PANIC", s)
}

func parseFields(s string) (map[string]string, error) {
	fields := map[string]string{"ts": "ts", "level": "level", "caller": "caller", "msg": "msg"}
	if s == "" {
		return fields, nil
	}
	items, err := flagvalue.SplitList(s)
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		from, to, ok := strings.Cut(item, ":")
		if _, known := fields[from]; !ok || !known {
			return nil, fmt.Errorf("cannot parse -loggerJSONFields item %q: want one of ts, level, caller, msg, then a colon and the new name", item)
		}
		fields[from] = to
	}
	return fields, nil
}

// Infof logs what happens in normal operation.
func (l *Logger) Infof(format string, args ...any) { l.log(Info, 2, format, args) }

// Warnf logs what an operator should look at some day.
func (l *Logger) Warnf(format string, args ...any) { l.log(Warn, 2, format, args) }

// Errorf logs what an operator should look at now.
func (l *Logger) Errorf(format string, args ...any) { l.log(Error, 2, format, args) }

// Fatalf logs why the process is about to exit. It does not exit.
func (l *Logger) Fatalf(format string, args ...any) { l.log(Fatal, 2, format, args) }

func (l *Logger) log(level Level, skip int, format string, args []any) {
	now := l.now()
	location := caller(skip)
	printed := level >= l.min && l.admit(now, level, location)
	l.set.Counter(fmt.Sprintf("vm_log_messages_total{level=%q,location=%q,is_printed=\"%t\"}", level.String(), location, printed)).Inc()
	if !printed {
		return
	}
	msg := fmt.Sprintf(format, l.shorten(args)...)
	line := l.format(now, level, location, msg)
	l.mu.Lock()
	defer l.mu.Unlock()
	// Nobody is left to tell when the log itself cannot be written.
	_, _ = l.w.Write(line)
}

// admit applies the limits of records per second.
func (l *Logger) admit(now time.Time, level Level, location string) bool {
	limit := l.limits[level]
	if limit <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.mu.second {
		l.mu.second = s
		clear(l.mu.counts)
	}
	key := level.String() + location
	l.mu.counts[key]++
	return l.mu.counts[key] <= limit
}

func (l *Logger) shorten(args []any) []any {
	if l.maxArgLen <= 0 {
		return args
	}
	var out []any
	for i, arg := range args {
		s, ok := arg.(string)
		if err, isErr := arg.(error); isErr && err != nil {
			s, ok = err.Error(), true
		}
		if !ok || len(s) <= l.maxArgLen {
			continue
		}
		if out == nil {
			out = append([]any(nil), args...)
		}
		half := l.maxArgLen / 2
		out[i] = s[:half] + ".." + s[len(s)-half:]
	}
	if out == nil {
		return args
	}
	return out
}

const timeFormat = "2006-01-02T15:04:05.000Z0700"

func (l *Logger) format(now time.Time, level Level, location, msg string) []byte {
	ts := now.In(l.zone).Format(timeFormat)
	if !l.json {
		msg = strings.ReplaceAll(strings.TrimRight(msg, "\n"), "\n", "\\n")
		if l.disableTimestamps {
			return fmt.Appendf(nil, "%s\t%s\t%s\n", level, location, msg)
		}
		return fmt.Appendf(nil, "%s\t%s\t%s\t%s\n", ts, level, location, msg)
	}
	b := []byte{'{'}
	for _, field := range []struct{ name, value string }{{"ts", ts}, {"level", level.String()}, {"caller", location}, {"msg", msg}} {
		if field.name == "ts" && l.disableTimestamps {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, quoteJSON(l.fields[field.name])...)
		b = append(b, ':')
		b = append(b, quoteJSON(field.value)...)
	}
	return append(b, '}', '\n')
}

func quoteJSON(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.AppendQuote(nil, s) // cannot happen for strings
	}
	return b
}

// caller returns "dir/file.go:line" of the function skip frames up.
func caller(skip int) string {
	_, file, line, ok := runtime.Caller(skip + 1)
	if !ok {
		return "unknown:0"
	}
	dir, base := filepath.Split(file)
	return filepath.Base(dir) + "/" + base + ":" + strconv.Itoa(line)
}

// Throttle lets one record of a kind through per interval, for places that
// bad input could make log without end.
type Throttle struct {
	l        *Logger
	interval time.Duration

	mu struct {
		sync.Mutex
		next       time.Time
		suppressed int
	}
}

// NewThrottle returns a throttle which logs to l at most once per interval.
func NewThrottle(l *Logger, interval time.Duration) *Throttle {
	return &Throttle{l: l, interval: interval}
}

// Warnf logs a warning unless one was logged within the interval, and says how
// many were left out before it.
func (t *Throttle) Warnf(format string, args ...any) {
	now := t.l.now()
	t.mu.Lock()
	if now.Before(t.mu.next) {
		t.mu.suppressed++
		t.mu.Unlock()
		return
	}
	suppressed := t.mu.suppressed
	t.mu.suppressed = 0
	t.mu.next = now.Add(t.interval)
	t.mu.Unlock()
	if suppressed > 0 {
		format += fmt.Sprintf(" (%d similar messages were left out before this one)", suppressed)
	}
	t.l.log(Warn, 2, format, args)
}

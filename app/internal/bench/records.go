package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Records are the results of a file, by experiment.
type Records struct {
	Runs   []Result
	Scale  []ScaleResult
	Churn  []ChurnResult
	Memory []MemoryResult
	Soak   []SoakResult
	Crash  []CrashResult
	Growth []GrowthResult
}

// Len returns how many results there are.
func (r *Records) Len() int {
	return len(r.Runs) + len(r.Scale) + len(r.Churn) + len(r.Memory) + len(r.Soak) + len(r.Crash) + len(r.Growth)
}

// Read adds the lines of a file that commands have written with -out.
func (r *Records) Read(file io.Reader) error {
	for dec := json.NewDecoder(file); ; {
		var line json.RawMessage
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.add(line)
		}
		if err != nil {
			return fmt.Errorf("cannot parse result %d: %w; give a file that `vmbench run` or another command has written with -out", r.Len()+1, err)
		}
	}
}

func (r *Records) add(line []byte) error {
	var origin Origin
	if err := json.Unmarshal(line, &origin); err != nil {
		return err
	}
	switch origin.Kind {
	case "":
		return addRecord(&r.Runs, line, func(v *Result) bool { return v.Ingest != nil && v.Ingest.Samples > 0 })
	case "scale":
		return addRecord(&r.Scale, line, func(v *ScaleResult) bool { return len(v.Cells) > 0 })
	case "churn":
		return addRecord(&r.Churn, line, func(v *ChurnResult) bool {
			return v.Steady != nil && v.Churned != nil && v.Alone != nil && v.Storm != nil
		})
	case "memory":
		return addRecord(&r.Memory, line, func(v *MemoryResult) bool { return v.Series > 0 })
	case "soak":
		return addRecord(&r.Soak, line, func(v *SoakResult) bool { return v.Load != nil })
	case "growth":
		return addRecord(&r.Growth, line, func(v *GrowthResult) bool { return v.Steady != nil && v.Steady.Samples > 0 })
	case "crash":
		return addRecord(&r.Crash, line, func(*CrashResult) bool { return true })
	}
	return fmt.Errorf("there is no experiment %q", origin.Kind)
}

// addRecord parses a line and appends it if it is complete.
func addRecord[T any](list *[]T, line []byte, complete func(*T) bool) error {
	var v T
	if err := json.Unmarshal(line, &v); err != nil {
		return err
	}
	if !complete(&v) {
		return errors.New("it has no measurements")
	}
	*list = append(*list, v)
	return nil
}

// Table returns Markdown tables of all results: medians over repeated runs, in
// brackets the lowest and the highest, and ratios to the base peer.
func (r *Records) Table(base string) string {
	var b strings.Builder
	runTables(&b, r.Runs, base)
	churnTable(&b, r.Churn)
	for i := range r.Scale {
		r.Scale[i].table(&b)
	}
	for i := range r.Memory {
		r.Memory[i].table(&b)
	}
	for i := range r.Soak {
		r.Soak[i].table(&b)
	}
	crashTable(&b, r.Crash)
	growthTables(&b, r.Growth)
	return strings.TrimPrefix(b.String(), "\n")
}

// crashTable writes a row for each crash check.
func crashTable(b *strings.Builder, results []CrashResult) {
	if len(results) == 0 {
		return
	}
	b.WriteString("\n### Killed storage nodes\n\n")
	row(b, "peer", "kills under load", "acknowledged samples", "lost", "wrong", "of refused requests found", "longest request, ms")
	ruler(b, 7)
	for i := range results {
		r := &results[i]
		row(b, r.Peer, fmt.Sprint(r.Kills), thousands(r.AckedSamples), thousands(r.Lost), thousands(r.Wrong), thousands(r.FoundRefused), fmt.Sprintf("%.0f", r.LongestRequestMs))
	}
}

func row(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func ruler(b *strings.Builder, columns int) {
	b.WriteString("|" + strings.Repeat("---|", columns) + "\n")
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

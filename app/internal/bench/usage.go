package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const procRoot = "/proc"

// userHz is the unit of CPU times in /proc: 100 a second on every Linux that Go supports.
const userHz = 100

// Usage is what a set of processes has used so far.
type Usage struct {
	CPUSeconds float64 `json:"cpu_s"`
	RSS        int64   `json:"rss"`      // VmRSS, with mapped files
	Anon       int64   `json:"rss_anon"` // RssAnon, heap and stacks
	Peak       int64   `json:"rss_peak"` // VmHWM
	Written    int64   `json:"written"`  // bytes sent to the disk layer
}

// ParsePIDs parses a comma-separated list of process ids.
func ParsePIDs(s string) ([]int, error) {
	var pids []int
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		pid, err := strconv.Atoi(f)
		if err != nil || pid < 1 {
			return nil, fmt.Errorf("cannot parse process id %q: give numbers, separated by commas", f)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// ReadUsage sums up the usage of the processes.
func ReadUsage(pids []int) (Usage, error) {
	var u Usage
	for _, pid := range pids {
		if err := u.add(pid); err != nil {
			return u, fmt.Errorf("cannot read usage of process %d: %w", pid, err)
		}
	}
	return u, nil
}

// readAnon sums up the heaps and stacks of the processes.
func readAnon(pids []int) (int64, error) {
	var u Usage
	for _, pid := range pids {
		lines := readLines(filepath.Join(procRoot, strconv.Itoa(pid), "status"))
		if lines == nil {
			return 0, fmt.Errorf("cannot read memory of process %d: it has ended", pid)
		}
		for _, line := range lines {
			u.addMemory(strings.Fields(line))
		}
	}
	return u.Anon, nil
}

func (u *Usage) add(pid int) error {
	proc := filepath.Join(procRoot, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return err
	}
	ticks, err := cpuTicksOf(stat)
	if err != nil {
		return err
	}
	u.CPUSeconds += ticks / userHz
	for _, line := range readLines(filepath.Join(proc, "status")) {
		u.addMemory(strings.Fields(line))
	}
	for _, line := range readLines(filepath.Join(proc, "io")) { // which may need privileges
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return err
			}
			u.Written += n
		}
	}
	return nil
}

// cpuMillis returns the CPU time of the processes so far, to the microsecond where the kernel keeps it: the
// times of their threads, which servers seldom end.
func cpuMillis(pids []int) (float64, error) {
	total := 0.0
	for _, pid := range pids {
		ms, ok := threadMillis(filepath.Join(procRoot, strconv.Itoa(pid), "task"))
		if !ok {
			u, err := ReadUsage([]int{pid})
			if err != nil {
				return 0, err
			}
			ms = u.CPUSeconds * 1000
		}
		total += ms
	}
	return total, nil
}

// threadMillis sums up the first field, nanoseconds on a CPU, of the threads' schedstat files.
func threadMillis(tasks string) (ms float64, ok bool) {
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return 0, false
	}
	for _, t := range threads {
		data, err := os.ReadFile(filepath.Join(tasks, t.Name(), "schedstat"))
		if errors.Is(err, os.ErrNotExist) && ok {
			continue // it has just ended
		}
		f := strings.Fields(string(data))
		if err != nil || len(f) == 0 {
			return 0, false
		}
		ns, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			return 0, false
		}
		ms, ok = ms+ns/1e6, true
	}
	return ms, ok
}

// cpuTicksOf returns user and system time from the content of /proc/PID/stat.
func cpuTicksOf(stat []byte) (float64, error) {
	// The fields after the command's name, which may hold blanks.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const userField, systemField = 11, 12
	if len(f) <= systemField {
		return 0, fmt.Errorf("%q has too few fields", stat)
	}
	user, err := strconv.ParseFloat(f[userField], 64)
	system, err2 := strconv.ParseFloat(f[systemField], 64)
	return user + system, errors.Join(err, err2)
}

// addMemory adds a line of /proc/PID/status, split into fields.
func (u *Usage) addMemory(f []string) {
	if len(f) != 3 || f[2] != "kB" {
		return
	}
	kb, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return
	}
	switch f[0] {
	case "VmRSS:":
		u.RSS += kb << 10
	case "RssAnon:":
		u.Anon += kb << 10
	case "VmHWM:":
		u.Peak += kb << 10
	}
}

// readLines returns nothing when the file cannot be read.
func readLines(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Split(string(data), "\n")
}

// ResetPeaks makes the peaks start again from the current memory. Without the privilege they stay.
func ResetPeaks(pids []int) {
	for _, pid := range pids {
		_ = os.WriteFile(filepath.Join(procRoot, strconv.Itoa(pid), "clear_refs"), []byte("5"), 0) // needs privileges
	}
}

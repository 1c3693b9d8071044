package service

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestCoarsenTimers runs this test once more in a process of its own, which replaces itself.
func TestCoarsenTimers(t *testing.T) {
	const child = "SERVICE_TEST_CHILD"
	if os.Getenv(child) != "" {
		if err := coarsenTimers(); err != nil {
			t.Fatalf("cannot replace the program: %s", err)
		}
		slack, err := timerSlack()
		if err != nil {
			t.Fatal(err)
		}
		_, left := os.LookupEnv(timersEnv)
		t.Logf("pid %d slack %d left %t", os.Getpid(), slack, left)
		return
	}
	for name, c := range map[string]struct{ env, want string }{
		"replaced":    {"", "slack " + strconv.Itoa(timerSlackNs) + " left false"},
		"told not to": {timersEnv + "=fine", "left false"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestCoarsenTimers$", "-test.v")
			cmd.Env = append(os.Environ(), child+"=1")
			if c.env != "" {
				cmd.Env = append(cmd.Env, c.env)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "pid "+strconv.Itoa(cmd.Process.Pid)+" ") {
				t.Errorf("got %v and:\n%s\nwant %q of process %d", err, out, c.want, cmd.Process.Pid)
			}
			if c.env != "" && strings.Contains(string(out), strconv.Itoa(timerSlackNs)) {
				t.Errorf("timers were changed:\n%s", out)
			}
		})
	}
}

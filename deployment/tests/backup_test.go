package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmcluster/deployment/tests/units"
)

// TestBackupAndRestore: each storage node's vmbackupmanager makes backups, and the one that is marked is what the node has
// after its pod was started again. It is the overlay which has everything.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "../kubernetes/overlays/production")
	c.world.Start(c.units)
	writeAndRead(t, c.write, c.read)
	var managers []string
	for n := range 3 {
		managers = append(managers, "http://"+c.world.Addr(fmt.Sprintf("vmstorage-%d", n), 8300))
	}
	for _, m := range managers {
		backUp(t, m)
	}
	writeSeries(t, c.write, "late")
	find(t, c.read, `count(late)`, 100)
	for _, m := range managers {
		if _, err := call(http.MethodPost, m+"/api/v1/restore", `{"backup":"latest"}`); err != nil {
			t.Fatal(err)
		}
	}
	c.world.Stop()
	c.world.Start(c.units)
	find(t, c.read, `count(deployed) unless on() count(late)`, 100)
	c.world.Stop()
}

// backUp asks for a backup and waits for it.
func backUp(t *testing.T, manager string) {
	t.Helper()
	var before time.Time
	units.Eventually(t, "the first backup", func() (err error) {
		before, err = latest(manager)
		return err
	})
	units.Eventually(t, "a backup is asked for", func() error {
		if !time.Now().After(before.Add(time.Second)) {
			return fmt.Errorf("the time of a new one would be %s as of that before", before)
		}
		_, err := call(http.MethodPost, manager+"/api/v1/backups", "")
		return err
	})
	units.Eventually(t, "the next backup", func() error {
		now, err := latest(manager)
		if err == nil && !now.After(before) {
			err = fmt.Errorf("the last is of %s", now)
		}
		return err
	})
}

// latest returns when the backup "latest" was made.
func latest(manager string) (time.Time, error) {
	answer, err := call(http.MethodGet, manager+"/api/v1/backups", "")
	if err != nil {
		return time.Time{}, err
	}
	var rows []struct {
		Name      string
		State     string
		CreatedAt time.Time `json:"created_at"`
	}
	if err := json.Unmarshal(answer, &rows); err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", answer, err)
	}
	for _, row := range rows {
		if row.Name == "latest" && row.State == "complete" {
			return row.CreatedAt, nil
		}
	}
	return time.Time{}, fmt.Errorf("there is none among %s", answer)
}

func call(method, url, body string) ([]byte, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := units.Client().Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s is answered %s %s", method, url, resp.Status, answer)
	}
	return answer, err
}

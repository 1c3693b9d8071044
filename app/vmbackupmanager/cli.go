package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vmcluster/lib/backup"
	"vmcluster/lib/service"
)

// commands returns what can be asked for on the command line. All but restore ask a running vmbackupmanager at -apiURL.
func (c *component) commands() []service.Command {
	name := []string{"name"}
	return []service.Command{
		{Name: "backup list", Help: "Lists the backups that a running vmbackupmanager knows, as JSON.", Run: c.ask(http.MethodGet, backupsPath, "")},
		{Name: "backup create", Help: "Lets a backup be made now.", Run: c.ask(http.MethodPost, backupsPath, "")},
		{Name: "backup lock", Args: name, Help: "Protects a backup from being deleted by retention.", Run: c.ask(http.MethodPut, backupsPath+"/%s", `{"locked":true}`)},
		{Name: "backup unlock", Args: name, Help: "Lets retention delete it again.", Run: c.ask(http.MethodPut, backupsPath+"/%s", `{"locked":false}`)},
		{Name: "backup verify", Args: name, Help: "Loads a backup to a temporary directory, checks everything in it, and waits for that.", Run: c.verifyCommand},
		{Name: "restore create", Args: name, Help: "Asks for a restore of a backup, or of one at a URL, by the next vmbackupmanager restore.", Run: c.ask(http.MethodPost, restorePath, `{"backup":%s}`)},
		{Name: "restore get", Help: "Shows which backup is to be restored.", Run: c.ask(http.MethodGet, restorePath, "")},
		{Name: "restore delete", Help: "Takes that back.", Run: c.ask(http.MethodDelete, restorePath, "")},
		{Name: "restore", Help: "Restores the backup which was asked for to -storageDataPath, whose process must be stopped; does nothing if none was.", Run: c.restore},
	}
}

// ask returns a command which sends a request; %s in its path or body stands for the argument.
func (c *component) ask(method, path, body string) func(ctx context.Context, env *service.Env, args []string) error {
	return func(ctx context.Context, env *service.Env, args []string) error {
		path, body := path, body
		if strings.Contains(path, "%s") {
			path = fmt.Sprintf(path, args[0])
		}
		if strings.Contains(body, "%s") {
			name, err := json.Marshal(args[0])
			if err != nil {
				return err
			}
			body = fmt.Sprintf(body, name)
		}
		answer, err := c.call(ctx, method, path, body)
		if err != nil || strings.TrimSpace(string(answer)) == "{}" {
			return err
		}
		_, err = env.Stdout.Write(answer)
		return err
	}
}

// call sends a request to a running vmbackupmanager and returns its answer.
func (c *component) call(ctx context.Context, method, path, body string) (_ []byte, err error) {
	target, err := url.Parse(strings.TrimSuffix(c.apiURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("cannot use -apiURL=%q: %w", c.apiURL, err)
	}
	target = target.JoinPath(path)
	if c.authKey.Get() != "" {
		target.RawQuery = url.Values{"authKey": {c.authKey.Get()}}.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	c.tool.Authorize(r)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL may hold the key
		}
		return nil, fmt.Errorf("cannot reach vmbackupmanager at -apiURL=%q: %w", c.apiURL, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode < 300 {
		return data, err
	}
	var failure struct{ Error string }
	if json.Unmarshal(data, &failure) == nil && failure.Error != "" {
		return nil, errors.New(failure.Error)
	}
	return nil, fmt.Errorf("%s answers %s: %.200s", path, response.Status, data)
}

// lookInterval is the time between looks at how far a verification is.
const lookInterval = time.Second

func (c *component) verifyCommand(ctx context.Context, env *service.Env, args []string) error {
	path := backupsPath + "/" + args[0] + verifySuffix
	if _, err := c.call(ctx, http.MethodPost, path, ""); err != nil {
		return err
	}
	for {
		data, err := c.call(ctx, http.MethodGet, path, "")
		if err != nil {
			return err
		}
		var v verification
		if err := json.Unmarshal(data, &v); err != nil {
			return err
		}
		switch v.State {
		case stateFailed:
			return fmt.Errorf("backup %s cannot be relied on: %s", v.Name, v.Error)
		case stateOK:
			_, err := env.Stdout.Write(data)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookInterval):
		}
	}
}

// restore restores what was asked for.
func (c *component) restore(ctx context.Context, env *service.Env, _ []string) error {
	name, err := readMark(c.fs(), c.dataPath)
	if err != nil {
		return err
	}
	if name == "" {
		env.Logger.Infof("no restore is asked for in %q", c.dataPath)
		return nil
	}
	source := name
	if !strings.Contains(name, "://") {
		source = strings.TrimSuffix(c.dst, "/") + "/" + name
	}
	r := &backup.Recovery{FS: c.fs(), DataPath: c.dataPath, Keep: []string{markName}, Options: c.tool.Options(env)}
	if r.Src, err = c.tool.Open(ctx, "dst", source); err != nil {
		return err
	}
	start := time.Now()
	stats, err := backup.Restore(ctx, r)
	if err != nil {
		return err
	}
	if err := deleteMark(c.fs(), c.dataPath); err != nil {
		return fmt.Errorf("%s is restored, but would be again at the next start: %w", name, err)
	}
	env.Logger.Infof("restored %s to %q: %d bytes in %.3f seconds; deleted %d bytes; downloaded %d bytes", r.Src, c.dataPath, stats.Bytes, time.Since(start).Seconds(), stats.Deleted, stats.Moved)
	return nil
}

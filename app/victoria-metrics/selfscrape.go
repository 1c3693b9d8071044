package main

import (
	"bytes"
	"context"
	"flag"
	"time"

	"vmcluster/app/internal/insertapi"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/model"
	"vmcluster/lib/service"
)

// selfScrape stores the metrics of the process in its own storage.
type selfScrape struct {
	interval      flagvalue.Duration
	job, instance string
}

// RegisterFlags registers the -selfScrape* flags.
func (c *selfScrape) RegisterFlags(fs *flag.FlagSet) {
	fs.Var(&c.interval, "selfScrapeInterval", "Distance at which the metrics of /metrics are stored in this process itself; 0 turns it off")
	fs.StringVar(&c.job, "selfScrapeJob", "victoria-metrics", "Value of the label job of the metrics stored by -selfScrapeInterval")
	fs.StringVar(&c.instance, "selfScrapeInstance", "self", "Value of the label instance of the metrics stored by -selfScrapeInterval")
}

// start scrapes until the process stops.
func (c *selfScrape) start(env *service.Env, writes *insertapi.API) {
	if c.interval <= 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		warn := logger.NewThrottle(env.Logger, time.Minute)
		ticker := time.NewTicker(c.interval.D())
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				if err := c.scrape(ctx, env, writes, now); err != nil && ctx.Err() == nil {
					warn.Warnf("cannot store the metrics of this process, see -selfScrapeInterval: %s", err)
				}
			}
		}
	}()
	env.OnStop("self scraping", func() error {
		cancel()
		<-done
		return nil
	})
}

func (c *selfScrape) scrape(ctx context.Context, env *service.Env, writes *insertapi.API, now time.Time) error {
	var page bytes.Buffer
	if err := env.Metrics.Write(&page, false); err != nil {
		return err
	}
	return writes.ImportText(ctx, &page, now, []model.Label{{Name: "job", Value: c.job}, {Name: "instance", Value: c.instance}})
}

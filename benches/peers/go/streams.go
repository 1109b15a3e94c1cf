package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// GetStream, which etcd 3.7 answers in chunks.
func pages(client *clientv3.Client, p params) *report {
	keys := p.number("keys")
	m := start()
	stream, err := client.GetStream(context.Background(), fmt.Sprintf("peers/r%d/", keys), clientv3.WithPrefix())
	check(err)
	count := 0
	for page := range stream {
		check(page.Err())
		count += len(page.RangeResponse.Kvs)
	}
	result := m.report(count)
	if count != keys {
		fail(fmt.Errorf("%d of %d keys", count, keys))
	}
	return result
}

// One channel is read directly; those of many watches have a goroutine each.
func watch(client *clientv3.Client, p params) *report {
	watchers, events := p.number("watchers"), p.number("events")
	// WithRequireLeader and WithCreatedNotify are what the documentation names for a watch that has to be seen to work.
	ctx := clientv3.WithRequireLeader(context.Background())
	var m meter
	if watchers == 1 {
		channel := client.Watch(ctx, "peers/l/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		created(channel)
		ready()
		first := received(channel)
		m = start()
		count := 0
		for first+count < events {
			count += received(channel)
		}
		return m.report(count)
	}
	var count atomic.Int64
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	channels := make([]clientv3.WatchChan, watchers)
	for n := range watchers {
		channels[n] = client.Watch(ctx, fmt.Sprintf("peers/l/%04d", n), clientv3.WithCreatedNotify())
	}
	for _, channel := range channels {
		created(channel)
		go func() {
			for {
				some := int64(received(channel))
				all := count.Add(some)
				if all == some {
					began <- struct{}{}
				}
				if all >= int64(events) {
					ended <- struct{}{}
				}
			}
		}()
	}
	ready()
	<-began
	m = start()
	before := count.Load()
	<-ended
	return m.report(int(count.Load() - before))
}

func created(channel clientv3.WatchChan) {
	response, ok := <-channel
	if !ok || !response.Created {
		fail(fmt.Errorf("the watch was not created: %v", response.Err()))
	}
}

func received(channel clientv3.WatchChan) int {
	response, ok := <-channel
	if !ok {
		fail(fmt.Errorf("the watch ended"))
	}
	check(response.Err())
	return len(response.Events)
}

func replay(client *clientv3.Client, p params) *report {
	events, revision := p.number("events"), int64(p.number("revision"))
	m := start()
	channel := client.Watch(context.Background(), "peers/h/", clientv3.WithPrefix(), clientv3.WithRev(revision))
	count := 0
	for count < events {
		count += received(channel)
	}
	return m.report(count)
}

// KeepAlive renews by itself; its channel has to be read, so each lease has a goroutine.
func leases(client *clientv3.Client, p params) *report {
	first, count := p.number("first"), p.number("count")
	var renewed atomic.Int64
	for id := first; id < first+count; id++ {
		answers, err := client.KeepAlive(context.Background(), clientv3.LeaseID(id))
		check(err)
		go func() {
			for range answers {
				renewed.Add(1)
			}
		}()
	}
	for begun := time.Now(); renewed.Load() < int64(count) && time.Since(begun) < soon; {
		time.Sleep(10 * time.Millisecond)
	}
	m, before := start(), renewed.Load()
	time.Sleep(p.seconds("secs"))
	return m.report(int(renewed.Load() - before))
}

// The first list of the endpoint manager, which the resolver of gRPC uses.
func list(client *clientv3.Client, p params) *report {
	count := p.number("count")
	_, err := client.Get(context.Background(), "peers/v/256")
	check(err)
	m := start()
	manager, err := endpoints.NewManager(client, fmt.Sprintf("peers-list-%d", count))
	check(err)
	updates, err := manager.NewWatchChannel(context.Background())
	check(err)
	shown := len(<-updates)
	result := m.report(shown)
	if shown != count {
		fail(fmt.Errorf("%d of %d instances", shown, count))
	}
	return result
}

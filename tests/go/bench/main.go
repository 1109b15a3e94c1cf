// Measures get and put of one value of 256 bytes with clientv3, for benches/go.rs.
//
// usage: bench ENDPOINT get|put THREADS SECONDS
//
// It prints the calls a second, the median and the 99th percentile of the latency, and the CPU time of a
// call, all times in microseconds.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const key = "bench/key"

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fail(err)
	}
	return n
}

// The CPU time of this process, in microseconds.
func used() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	micros := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return micros(usage.Utime) + micros(usage.Stime)
}

func main() {
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: bench ENDPOINT get|put THREADS SECONDS"))
	}
	threads, seconds := number(os.Args[3]), number(os.Args[4])
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: 5 * time.Second,
	})
	if err != nil {
		fail(err)
	}
	defer client.Close()
	value := string(bytes.Repeat([]byte("v"), 256))
	call := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		if os.Args[2] == "get" {
			_, err = client.Get(ctx, key)
		} else {
			_, err = client.Put(ctx, key, value)
		}
		if err != nil {
			fail(err)
		}
	}
	var warm, done sync.WaitGroup
	start := make(chan time.Time)
	latencies := make([][]time.Duration, threads)
	for n := range threads {
		warm.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			for range 100 {
				call()
			}
			latencies[n] = make([]time.Duration, 0, 100_000)
			warm.Done()
			begun := <-start
			for time.Since(begun) < time.Duration(seconds)*time.Second {
				sent := time.Now()
				call()
				latencies[n] = append(latencies[n], time.Since(sent))
			}
		}()
	}
	warm.Wait()
	begun, before := time.Now(), used()
	for range threads {
		start <- begun
	}
	done.Wait()
	took, cpu := time.Since(begun), used()-before
	var all []time.Duration
	for _, some := range latencies {
		all = append(all, some...)
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	at := func(share float64) int64 { return all[int(float64(len(all))*share)].Microseconds() }
	fmt.Printf("%.1f %d %d %.2f\n",
		float64(len(all))/took.Seconds(), at(0.5), at(0.99), cpu/float64(len(all)))
}

// Two helpers of the benchmarks, in Go so that neither is what a figure measures:
//
//	gotools serve -cert FILE -key FILE -plain ADDRESS -tls ADDRESS   an SMTP server that takes every login and envelope;
//	                                                                 prints how long it saw each session, accept to QUIT
//	gotools drive -url PREFIX -parallel N FILE                       GET PREFIX+line for each line, N at a time
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: gotools serve|drive"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	switch os.Args[1] {
	case "serve":
		cert, key := flags.String("cert", "", ""), flags.String("key", "", "")
		plain, implicit := flags.String("plain", "", ""), flags.String("tls", "", "")
		must(flags.Parse(os.Args[2:]))
		serve(*cert, *key, *plain, *implicit)
	case "drive":
		prefix, parallel := flags.String("url", "", ""), flags.Int("parallel", 32, "")
		must(flags.Parse(os.Args[2:]))
		drive(*prefix, *parallel, flags.Arg(0))
	default:
		fail(fmt.Errorf("unknown: %s", os.Args[1]))
	}
}

func serve(cert, key, plain, implicit string) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	must(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	go accept("tls", implicit, func(conn net.Conn) { session(tls.Server(conn, config), nil) })
	accept("plain", plain, func(conn net.Conn) { session(conn, config) })
}

func accept(name, address string, serve func(net.Conn)) {
	listener, err := net.Listen("tcp4", address)
	must(err)
	fmt.Println(name, listener.Addr())
	for {
		conn, err := listener.Accept()
		must(err)
		go serve(conn)
	}
}

// session speaks SMTP; config is nil where TLS is on already.
func session(conn net.Conn, config *tls.Config) {
	began, quit := time.Now(), false
	defer func() {
		if quit {
			fmt.Println("session", time.Since(began).Seconds())
		}
		_ = conn.Close()
	}()
	lines := bufio.NewReader(conn)
	say(conn, "220 bench.test ESMTP ready\r\n")
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			offer := "AUTH PLAIN LOGIN"
			if config != nil {
				offer = "STARTTLS"
			}
			say(conn, "250-bench.test\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-"+offer+"\r\n250 8BITMIME\r\n")
		case "STARTTLS":
			say(conn, "220 2.0.0 go ahead\r\n")
			conn = tls.Server(conn, config)
			config, lines = nil, bufio.NewReader(conn)
		case "AUTH":
			say(conn, "235 2.7.0 ok\r\n")
		case "MAIL", "RCPT", "RSET":
			say(conn, "250 2.1.0 ok\r\n")
		case "QUIT":
			quit = true
			say(conn, "221 2.0.0 bye\r\n")
			return
		default:
			say(conn, "502 5.5.1 what\r\n")
		}
	}
}

func say(conn net.Conn, text string) { _, _ = io.WriteString(conn, text) }

// drive prints how many answers contained "probe_success 1", and exits with 1 where one did not.
func drive(prefix string, parallel int, path string) {
	data, err := os.ReadFile(path)
	must(err)
	targets := strings.Fields(string(data))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}
	queue, good := make(chan string), atomic.Int64{}
	var workers sync.WaitGroup
	for range parallel {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for target := range queue {
				answer, err := client.Get(prefix + url.QueryEscape(target))
				must(err)
				body, err := io.ReadAll(answer.Body)
				must(err)
				_ = answer.Body.Close()
				if strings.Contains(string(body), "\nprobe_success 1\n") {
					good.Add(1)
				}
			}
		}()
	}
	for _, target := range targets {
		queue <- target
	}
	close(queue)
	workers.Wait()
	fmt.Println(good.Load())
	if int(good.Load()) != len(targets) {
		os.Exit(1)
	}
}

func must(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "gotools:", err)
	os.Exit(1)
}

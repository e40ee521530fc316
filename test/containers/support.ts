/** Real containers for the tests of this folder, and servers that misbehave on a unix socket. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, PipewrightError } from '../../src/errors.ts';
import { image } from './image.ts';

let made = 0;

export function docker(...args: string[]): string {
  return execFileSync('docker', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

/** A name that no other test has; what is called so is removed when the test ends. */
export function newName(t: TestContext): string {
  const name = `pwtc-${process.pid}-${++made}`;
  // A test may have set DOCKER_HOST to a place of its own.
  const { DOCKER_HOST: _, ...env } = process.env;
  t.after(() => void spawnSync('docker', ['rm', '-f', '-v', name], { env }));
  return name;
}

/** Starts a container that sleeps, without a network unless `options` name one; gives its name and id. */
export function startContainer(t: TestContext, ...options: string[]): { name: string; id: string } {
  const name = newName(t);
  const given = options.includes('--network') ? options : [...options, '--network', 'none'];
  return { name, id: docker('run', '-d', '--name', name, ...given, image, 'sleep', '600') };
}

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwtc-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A server on a unix socket; `serve` gets each connection's number, from 1. */
export async function serveUnix(
  t: TestContext,
  serve: (socket: net.Socket, nr: number) => void,
): Promise<string> {
  const socketPath = path.join(temporaryFolder(t), 'socket');
  let connections = 0;
  const open = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => {});
    serve(socket, ++connections);
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.after(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return socketPath;
}

/** What a server does on each connection: sends these pieces one by one, then hangs up or (`hold`) does not. */
export interface Script {
  readonly pieces: readonly string[];
  readonly hold?: boolean;
}

/** A server in a thread of its own, which answers also while this thread stands still. */
export async function serveScript(t: TestContext, script: Script): Promise<string> {
  const socketPath = path.join(temporaryFolder(t), 'socket');
  const code = `
    const { workerData: { socketPath, pieces, hold }, parentPort } = require('node:worker_threads');
    const server = require('node:net').createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', async () => {
        for (const piece of pieces) {
          socket.write(piece);
          await new Promise((done) => setTimeout(done, 2));
        }
        if (!hold) socket.end();
      });
    });
    server.listen(socketPath, () => parentPort.postMessage('ready'));`;
  const worker = new Worker(code, { eval: true, workerData: { socketPath, ...script } });
  t.after(() => worker.terminate());
  await new Promise((done) => worker.once('message', done));
  return socketPath;
}

/** An `assert.rejects`/`throws` check for one line of a PipewrightError. */
export function failure(code: ErrorCode, text?: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof PipewrightError, String(error instanceof Error ? error.stack : error));
    assert.equal(error.code, code, error.message);
    assert.doesNotMatch(error.message, /\n/);
    if (text) assert.match(error.message, text);
    return true;
  };
}

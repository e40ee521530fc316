/** On what, and for whom, a command acts: a program by itself, or the agent, which keeps what it makes. */
import { fstatSync } from 'node:fs';
import type { ApplicationContext } from '@stricli/core';
import { Host } from '../apply/host.ts';
import type { Container } from '../containers/container.ts';
import type { ResolveOptions } from '../containers/resolve.ts';
import type { Attachment, ContainerRef } from '../model/attachment.ts';
import { writeText } from './output.ts';
import { onProgressLine } from './progress.ts';

/** An attachment that a command has made, or found as it was asked for. */
export interface Made {
  readonly container: Container;
  readonly want: Attachment;
  readonly firewall: boolean;
  /** Not to be kept. */
  readonly once: boolean;
}

/** What is kept no more. */
export interface Detaching {
  readonly forgotten: readonly string[];
  readonly warnings: readonly string[];
}

/** What a command is run with. */
export interface Session {
  host(): Host;
  /** Whether what is attached to containers of this runtime is kept, and with it their leases. */
  keepsLeasesOf(runtime: Container['runtime']): boolean;
  /** Where the container runtimes are. */
  readonly resolve: ResolveOptions;
  /** Text to the standard output (1) or error (2) of whoever gave the command. */
  write(fd: 1 | 2, text: string): void;
  /** Whether the standard error of whoever gave the command is a terminal, as far as is known. */
  readonly onTerminal: boolean;
  /** Shows that something is still going on, until disposed of. */
  progress(what: string): Disposable;
  /** Called with each attachment that was asked for, when it is there. Gives warnings. */
  attached(made: Made): Promise<readonly string[]>;
  /** Called before interfaces are taken away: these, or with undefined all of the container. */
  detaching(container: Container, ifnames: readonly string[] | undefined): Promise<Detaching>;
  /** Drops what is remembered of a container that cannot be found; without `ifname`, all of it. Gives the interfaces. */
  forget(container: ContainerRef, ifname: string | undefined): Promise<readonly string[]>;
}

/** What the commands of `pipewright` are called with. */
export interface CommandContext extends ApplicationContext {
  readonly session: Session;
}

/** A line (or several) to the standard output of whoever gave the command. */
export function printTo(session: Session, text: string): void {
  session.write(1, `${text}\n`);
}

/** Likewise, to the standard error. */
export function printErrorTo(session: Session, text: string): void {
  session.write(2, `${text}\n`);
}

/** A program by itself: nothing is kept, and what it made is known by its note. */
export class OwnSession implements Session, AsyncDisposable {
  readonly resolve = {};
  #host: Host | undefined;

  host(): Host {
    this.#host ??= new Host();
    return this.#host;
  }

  write(fd: 1 | 2, text: string): void {
    writeText(fd, text);
  }

  get onTerminal(): boolean {
    return fstatSync(2).isCharacterDevice();
  }

  keepsLeasesOf(): boolean {
    return false;
  }

  progress(what: string): Disposable {
    return onProgressLine(what);
  }

  async attached(): Promise<readonly string[]> {
    return [];
  }

  async detaching(): Promise<Detaching> {
    return { forgotten: [], warnings: [] };
  }

  async forget(): Promise<readonly string[]> {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#host?.[Symbol.asyncDispose]();
  }
}

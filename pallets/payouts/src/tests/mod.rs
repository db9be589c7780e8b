mod claiming;
mod earning;
mod histories;
